"""Read the config of a command line."""
import os
from argparse import Namespace
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

from convnext_mm.engine.strategy_choice import choose_strategy
from convnext_mm.utils.errors import UserError


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


def read_config(file: str | os.PathLike, options: dict | None = None, strategy: str | None = None) -> Config:
    """Read a config file, replace its strategy by ``strategy`` (if given), then merge ``{'key.of.it': value}``.

    Raises:
        UserError: The file does not exist or is not a config, or an override does not fit.
    """
    if not os.path.isfile(file):
        raise UserError(f'config {str(file)!r} does not exist; expected the path of a config file, such as '
                        'configs/cascade/convnext_t_3x.py')
    try:
        cfg = Config.fromfile(file)
    except Exception as error:  # A config is a program of the user's and may raise anything.
        raise UserError(f'config {str(file)!r} cannot be read: {type(error).__name__}: {error}') from error
    if strategy is not None:
        choose_strategy(cfg, strategy)
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise UserError(f'--cfg-options {options} does not fit {file}: {error}') from error
    return cfg


def load_config(args: Namespace, *needed: str) -> Config:
    """Return the config of a command line, overrides merged, with ``work_dir`` and ``launcher`` set.

    Args:
        args (argparse.Namespace): See ``apis.arguments``.
        needed (str): Top-level keys besides ``model`` that the config must have.

    Raises:
        UserError: The file is not a config that has these keys, or an override does not fit.
    """
    cfg, path = read_config(args.config, parse_options(args.cfg_options), args.strategy), Path(args.config)
    missing = [key for key in ('model', *needed) if cfg.get(key) is None]
    if missing:
        raise UserError(f'config {args.config!r} has no {", ".join(missing)}: expected a config of a model with its '
                        'data and schedule')
    cfg.launcher = args.launcher
    # Configs in several folders share a name, so the folder is part of the default.
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', path.resolve().parent.name, path.stem))
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return cfg
