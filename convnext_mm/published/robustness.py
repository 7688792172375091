"""The robustness of classifiers, read from ``robustness.json``: test sets, their classes, and the paper's table 8.

The file holds, by key: ``sets``, each with its classes (their number, or the indices of 200 among ImageNet's 1000),
corruptions and source; ``alexnet_errors``, by corruption of ImageNet-C and severity; ``rows``, a model each.

Source: see ``source`` in the file.
"""
import json
from functools import cache
from pathlib import Path


@cache
def published_robustness() -> dict:
    """Return the whole of ``robustness.json``: one shared dict, to be read and not changed."""
    return json.loads(Path(__file__).with_name('robustness.json').read_text(encoding='utf-8'))
