"""From a config to a runner whose checkpoints and data are read safely."""
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.checkpoint.mmengine_loader import register_loader
from convnext_mm.datasets.guard import guard_data
from convnext_mm.utils.configs import type_name


def build_runner(cfg, trust_checkpoint=False):
    """The runner that the config asks for, mmengine's by default; its checkpoints and data are read safely."""
    trust_pickles(trust_checkpoint)
    register_loader()
    hooks = cfg.get('custom_hooks') or []
    if 'SafeCheckpointHook' not in map(type_name, hooks):
        cfg.custom_hooks = [*hooks, dict(type='convnext_mm.SafeCheckpointHook')]
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    guard_data(runner, cfg.get('max_bad_samples', 0.001))
    return runner
