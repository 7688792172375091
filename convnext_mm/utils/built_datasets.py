"""Ways through mm's built data sets, which are known by their attributes: no mm class is imported."""
from collections.abc import Iterator
from typing import Any


def built_leaves(dataset: Any) -> Iterator[Any]:
    """Yield the built data sets inside of wrappers such as ConcatDataset and RepeatDataset, in their order."""
    for part in getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]:
        if part is None:
            yield dataset
        else:
            yield from built_leaves(part)
