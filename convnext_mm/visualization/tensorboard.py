"""Write TensorBoard logs where TensorBoard is installed."""
import logging

from mmengine.logging import print_log
from mmengine.visualization import TensorboardVisBackend as MMEngineTensorboardVisBackend

from convnext_mm.registry import VISBACKENDS


class _Silent:
    """Stand in for a summary writer: take every call, and do nothing."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


@VISBACKENDS.register_module()
class TensorboardVisBackend(MMEngineTensorboardVisBackend):
    """Write TensorBoard logs as mmengine does; where tensorboard is missing, say so in one line and go on."""

    def _init_env(self):
        try:
            super()._init_env()
        except ImportError:
            self._tensorboard = _Silent()
            print_log('No TensorBoard logs: tensorboard is not installed (pip install tensorboard)', logger='current',
                      level=logging.WARNING)
