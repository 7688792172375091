"""For ``custom_imports``: mmengine's functions read checkpoints safely from here on, inferencers' included."""
from convnext_mm.checkpoint.mmengine_loader import register_loader
from convnext_mm.engine.hooks.safe_checkpoint import SafeCheckpointHook

__all__ = ['SafeCheckpointHook']
register_loader()
