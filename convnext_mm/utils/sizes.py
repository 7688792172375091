"""Sizes in pixels in a config: the configs of this project import it, so it imports nothing."""
from typing import Any


def scale_sizes(node: Any, numerator: int, denominator: int) -> Any:
    """Return a copy of a part of a config with its sizes times ``numerator / denominator``, rounded down.

    Sizes are the tuples of integers, such as ``crop_size=(512, 512)``. Single integers and lists of integers stay.
    """
    if isinstance(node, dict):
        return {key: scale_sizes(value, numerator, denominator) for key, value in node.items()}
    if isinstance(node, list):
        return [scale_sizes(value, numerator, denominator) for value in node]
    if isinstance(node, tuple) and all(isinstance(item, int) for item in node):
        return tuple(item * numerator // denominator for item in node)
    return node
