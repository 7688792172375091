"""TensorBoard where it is installed."""
import logging

from mmengine.logging import print_log
from mmengine.visualization import TensorboardVisBackend as MMEngineTensorboardVisBackend

from convnext_mm.registry import VISBACKENDS


class _Silent:
    """Takes every call of a summary writer's, and does nothing."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


@VISBACKENDS.register_module()
class TensorboardVisBackend(MMEngineTensorboardVisBackend):
    """mmengine's, but where tensorboard is not installed the run goes on without it, and says so in one line."""

    def _init_env(self):
        try:
            super()._init_env()
        except ImportError:
            self._tensorboard = _Silent()
            print_log('No TensorBoard logs: tensorboard is not installed (pip install tensorboard)', logger='current',
                      level=logging.WARNING)
