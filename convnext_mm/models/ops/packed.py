"""Weights of linear layers in the order in which oneDNN multiplies by them.

A product lays its weight out anew each time, which takes 5 to 60 % of it, the more the fewer its rows. Here, a weight
is laid out once: for the pieces of a map, or for all calls of a model that only predicts.
"""
import torch
from torch.utils.weak import WeakTensorKeyDictionary

#: Rows that the order is chosen for. It takes others too, and must not depend on the images that come first.
ROWS = 2048
#: Weights that are kept packed -> {precision: (what they were when they were laid out, the results)}.
_KEPT = WeakTensorKeyDictionary()


def keep_packed(weight):
    """Have :func:`take_packed` lay a weight out once, and again when it has changed."""
    _KEPT[weight] = {}


def take_packed(weight, dtype):
    """Return a weight that is kept packed, laid out in a precision; None of any other weight."""
    kept = _KEPT.get(weight)
    if kept is None or weight.is_inference():
        # Changes of inference tensors cannot be seen.
        return None
    state = weight.data_ptr(), weight._version
    if dtype not in kept or kept[dtype][0] != state:
        kept[dtype] = state, pack(weight, dtype)
    return kept[dtype][1]


def pack(weight, dtype):
    """Return a weight laid out in a precision; only oneDNN can read it."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), ROWS)
