"""Let all of mmengine, inferencers included, read checkpoints safely; for a config's ``custom_imports``."""
from convnext_mm.checkpoint.mmengine_loader import register_loader
from convnext_mm.engine.hooks.safe_checkpoint import SafeCheckpointHook

__all__ = ['SafeCheckpointHook']
register_loader()
