"""Build a runner that reads checkpoints and data safely."""
from typing import Any

from mmengine.registry import OPTIMIZERS, RUNNERS
from mmengine.runner import FlexibleRunner, Runner

from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.checkpoint.mmengine_loader import register_loader
from convnext_mm.datasets.guard import guard_data
from convnext_mm.utils.building import mistakes_named
from convnext_mm.utils.configs import type_name, walk
from convnext_mm.utils.errors import UserError


def check_optimizers(cfg: Any) -> None:
    """Raise a ``UserError`` if a config names an optimizer that there is not: mmengine says that None is no function.

    Args:
        cfg (Config): Of a training.
    """
    for path, node in walk(cfg.optim_wrapper, ('optim_wrapper',)):
        kind = node.get('type')
        if path[-1] == 'optimizer' and isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            raise UserError(f'{".".join(map(str, path))}.type={kind!r} is no optimizer of torch or mmengine, nor one '
                            'that custom_imports registers: correct the name')


def build_runner(cfg, trust_checkpoint: bool = False) -> Runner | FlexibleRunner:
    """Return the runner that the config asks for, mmengine's by default; it reads checkpoints and data safely.

    Args:
        cfg (Config): Of a training or a test.
        trust_checkpoint (bool): Let checkpoints run code when they are read. Defaults to False.

    Raises:
        UserError: The config names a type that there is not, or arguments that a part of it does not take.
    """
    trust_pickles(trust_checkpoint)
    register_loader()
    hooks = cfg.get('custom_hooks') or []
    if 'SafeCheckpointHook' not in map(type_name, hooks):
        cfg.custom_hooks = [*hooks, dict(type='convnext_mm.SafeCheckpointHook')]
    with mistakes_named():
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    guard_data(runner, cfg.get('max_bad_samples', 0.001))
    return runner
