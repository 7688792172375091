"""Optimizer constructors; importing this package registers them."""
from convnext_mm.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor']
