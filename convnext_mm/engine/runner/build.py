"""Build a runner that reads checkpoints and data safely."""
from mmengine.registry import RUNNERS
from mmengine.runner import FlexibleRunner, Runner

from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.checkpoint.mmengine_loader import register_loader
from convnext_mm.datasets.guard import guard_data
from convnext_mm.utils.configs import type_name


def build_runner(cfg, trust_checkpoint: bool = False) -> Runner | FlexibleRunner:
    """Return the runner that the config asks for, mmengine's by default; it reads checkpoints and data safely.

    Args:
        cfg (Config): Of a training or a test.
        trust_checkpoint (bool): Let checkpoints run code when they are read. Defaults to False.
    """
    trust_pickles(trust_checkpoint)
    register_loader()
    hooks = cfg.get('custom_hooks') or []
    if 'SafeCheckpointHook' not in map(type_name, hooks):
        cfg.custom_hooks = [*hooks, dict(type='convnext_mm.SafeCheckpointHook')]
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    guard_data(runner, cfg.get('max_bad_samples', 0.001))
    return runner
