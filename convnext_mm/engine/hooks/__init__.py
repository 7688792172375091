"""Hooks; importing this package registers them."""
from convnext_mm.engine.hooks.checkpoint import CheckpointHook
from convnext_mm.engine.hooks.ema import EMAHook
from convnext_mm.engine.hooks.interruption import InterruptionHook
from convnext_mm.engine.hooks.layer_rates import LayerRateHook
from convnext_mm.engine.hooks.prediction_pictures import PredictionPicturesHook
from convnext_mm.engine.hooks.resume import ResumeHook
from convnext_mm.engine.hooks.run_state import RunStateHook
from convnext_mm.engine.hooks.safe_checkpoint import SafeCheckpointHook
from convnext_mm.engine.hooks.schedule_limits import ScheduleLimitHook
from convnext_mm.engine.hooks.sharded import ShardedEMAHook, WholeValidationHook

__all__ = ['CheckpointHook', 'EMAHook', 'InterruptionHook', 'LayerRateHook', 'PredictionPicturesHook', 'ResumeHook',
           'RunStateHook', 'SafeCheckpointHook', 'ScheduleLimitHook', 'ShardedEMAHook', 'WholeValidationHook']
