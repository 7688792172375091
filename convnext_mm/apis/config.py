"""Read the config of a command line."""
import os
from argparse import Namespace
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

from convnext_mm.engine.strategy_choice import choose_strategy
from convnext_mm.utils.errors import UserError


def parse_options(options):
    """Return ``{'key.of.the.config': value}`` for a list of ``KEY=VALUE``, read as mm's tools read it, or for None."""
    if not options or isinstance(options, dict):
        return options or {}
    parsed = Namespace()
    try:
        DictAction((), 'options')(None, parsed, options)
    except (ValueError, AssertionError) as error:
        raise UserError(f'argument --cfg-options: {" ".join(options)!r} is not KEY=VALUE ...: {error}') from None
    return parsed.options


def read_config(file, options=None, strategy=None):
    """Return the config in a file, with overrides (``{'key.of.it': value}``) merged, and ``strategy`` before them.

    Raises:
        UserError: Where the file does not exist or is not a config, or an override does not fit.
    """
    if not os.path.isfile(file):
        raise UserError(f'config {str(file)!r} does not exist; expected the path of a config file, such as '
                        'configs/cascade/convnext_t_3x.py')
    try:
        cfg = Config.fromfile(file)
    except Exception as error:  # A config is a program of the user's: whatever it raises is theirs to see.
        raise UserError(f'config {str(file)!r} cannot be read: {type(error).__name__}: {error}') from error
    if strategy is not None:
        choose_strategy(cfg, strategy)
    try:
        cfg.merge_from_dict(options or {})
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise UserError(f'--cfg-options {options} does not fit {file}: {error}') from error
    return cfg


def load_config(args, *needed):
    """The config of a command line, overrides merged, with ``work_dir`` and ``launcher`` set.

    Args:
        args (argparse.Namespace): See ``apis.arguments``.
        needed (str): Top-level keys besides ``model`` that the config must have.

    Raises:
        UserError: Where the file is not a config that can be trained, or an override does not fit.
    """
    cfg, path = read_config(args.config, parse_options(args.cfg_options), args.strategy), Path(args.config)
    missing = [key for key in ('model', *needed) if cfg.get(key) is None]
    if missing:
        raise UserError(f'config {args.config!r} has no {", ".join(missing)}: expected a config of a model with its '
                        'data and schedule')
    cfg.launcher = args.launcher
    # Leaves of several families share a name, so the folder is part of the default.
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', path.resolve().parent.name, path.stem))
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return cfg
