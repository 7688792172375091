"""Layer-wise learning-rate decay; importing this package registers it."""
from convnext_mm.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor']
