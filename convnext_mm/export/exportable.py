"""Parts of models in a form that exporters follow at any size: adaptive pooling as two small matrix products."""
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor


class AdaptivePool(nn.Module):
    """Compute what ``nn.AdaptiveAvgPool2d`` does: a mean over a bin is a product with a row of a matrix.

    Args:
        output_size (tuple[int, int]): Height and width of the result.
    """

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Return the means of ``x``, ``(N, C, H, W)``, over the bins: ``(N, C, *output_size)``."""
        rows, columns = (_bins(size, count, x) for size, count in zip(x.shape[2:], self.output_size))
        return rows @ x @ columns.t()


def _bins(size, count, like):
    """Return the matrix ``(count, size)`` that takes the means of bins of an axis; bins overlap where they must."""
    number, pixel = torch.arange(count, device=like.device)[:, None], torch.arange(size, device=like.device)[None]
    start, stop = number * size // count, ((number + 1) * size + count - 1) // count
    return ((pixel >= start) & (pixel < stop)).to(like.dtype) / (stop - start).to(like.dtype)


def _replacement(part: Any) -> nn.Module | None:
    """Return what does the same as a part at every size of an export, or None for a part that exports as it is."""
    if type(part) is nn.AdaptiveAvgPool2d and part.output_size not in (1, (1, 1)):
        size: Any = part.output_size
        return AdaptivePool((size, size) if isinstance(size, int) else tuple(size))
    if type(part).__name__ == 'Upsample' and type(part) is not nn.Upsample and not part.size:
        # mmseg's multiplies sizes in Python, where a traced size becomes the example's.
        return nn.Upsample(scale_factor=part.scale_factor, mode=part.mode, align_corners=part.align_corners)
    return None


@contextlib.contextmanager
def exportable(model: nn.Module) -> Iterator[None]:
    """Have parts that exporters follow in the place of those that they do not, within the block."""
    replaced = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            other = _replacement(child)
            if other is not None:
                setattr(parent, name, other)
                replaced.append((parent, name, child))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)
