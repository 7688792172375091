"""What a run shows: TensorBoard, pictures of its rates, its report; importing this package registers the backend."""
from convnext_mm.visualization.tensorboard import TensorboardVisBackend

__all__ = ['TensorboardVisBackend']
