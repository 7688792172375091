"""Read the config of a command line."""
import copy
import os
from argparse import Namespace
from pathlib import Path

from mmengine.config import Config, DictAction

from convnext_mm.engine.strategy_choice import choose_strategy
from convnext_mm.swap.refit import refit_readers
from convnext_mm.utils.config_files import find_config
from convnext_mm.utils.config_kinds import check_kinds
from convnext_mm.utils.config_reading import read_file
from convnext_mm.utils.configs import join_preprocessor
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.scopes import set_default_scope


def parse_options(options: list[str] | dict | None) -> dict:
    """Return ``{'key.of.the.config': value}`` for a list of ``KEY=VALUE``, read as mm's tools read it.

    Return a dict as it is, and an empty one for None.

    Raises:
        UserError: Something in the list is not ``KEY=VALUE``.
    """
    if not options:
        return {}
    if isinstance(options, dict):
        return options
    parsed = Namespace()
    try:
        DictAction((), 'options')(None, parsed, options)
    except (ValueError, AssertionError) as error:
        raise UserError(f'argument --cfg-options: {" ".join(options)!r} is not KEY=VALUE ...: {error}') from None
    return parsed.options


def read_config(name: str | os.PathLike, options: dict | None = None, strategy: str | None = None) -> Config:
    """Read a config, replace its strategy by ``strategy`` (if given), then merge ``{'key.of.it': value}``.

    Args:
        name (str | os.PathLike): A path, or a name such as ``mmdet::FAMILY/NAME.py``.
        options (dict, optional): What ``--cfg-options`` says.
        strategy (str, optional): What ``--strategy`` says.

    Raises:
        UserError: There is no such config, it cannot be read, a part of it is of a wrong kind, or an override does not
            fit.
    """
    file = find_config(str(name))
    try:
        cfg = read_file(file)
    except Exception as error:  # A config is a program of the user's and may raise anything.
        hint = '; write _base_ = __import__("convnext_mm").config("FAMILY/NAME.py")' if str(error).endswith(
            'not support to load convnext_mm config.') else ''
        raise UserError(f'config {str(name)!r} cannot be read: {type(error).__name__}: {error}{hint}') from error
    check_kinds(cfg)
    if strategy is not None:
        choose_strategy(cfg, strategy)
    before = copy.deepcopy((cfg.get('model') or {}).get('backbone'))
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
        raise UserError(f'--cfg-options {options} does not fit {name}: {error}') from error
    check_kinds(cfg)
    refit_readers(cfg, before)
    return cfg


def load_config(args: Namespace, *needed: str) -> Config:
    """Return the config of a command line, overrides merged, with ``work_dir`` and ``launcher`` set.

    Args:
        args (argparse.Namespace): See ``apis.arguments``.
        needed (str): Top-level keys besides ``model`` that the config must have.

    Raises:
        UserError: The file is not a config that has these keys, or an override does not fit.
    """
    cfg = read_config(args.config, parse_options(args.cfg_options), args.strategy)
    missing = [key for key in ('model', *needed) if cfg.get(key) is None]
    if missing:
        raise UserError(f'config {args.config!r} has no {", ".join(missing)}: expected a config of a model with its '
                        'data and schedule')
    cfg.launcher = args.launcher
    # Configs in several folders share a name, so the folder is part of the default.
    path = Path(cfg.filename).resolve()
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', path.parent.name, path.stem))
    join_preprocessor(cfg)
    set_default_scope(cfg)
    return cfg
