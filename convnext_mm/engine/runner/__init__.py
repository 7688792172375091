"""Training loops, strategies and runners; importing this package registers them."""
from convnext_mm.engine.runner.build import build_runner
from convnext_mm.engine.runner.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from convnext_mm.engine.runner.strategies import FSDPStrategy, StrategyRunner, wrap_blocks

__all__ = ['EpochBasedTrainLoop', 'FSDPStrategy', 'IterBasedTrainLoop', 'StrategyRunner', 'build_runner',
           'wrap_blocks']
