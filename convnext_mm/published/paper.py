"""The paper's numbers and hyperparameters, read from ``paper.json``, where each stands once.

The file holds, by key: ``coco`` and ``ade20k``, one row per config with its hyperparameters, results and weights;
``recipes``, what the rows of a task share; ``layer_decay``, the official rule; ``imagenet``, ``arch`` and others.

Source: arXiv:2201.03545 with its appendices; `facebookresearch/ConvNeXt`, README files and configs.
"""
import json
from functools import cache
from pathlib import Path


@cache
def published() -> dict:
    """Return the whole of ``paper.json``: one shared dict, to be read and not changed."""
    return json.loads(Path(__file__).with_name('paper.json').read_text(encoding='utf-8'))


def recipe(config_path: str | Path) -> dict | None:
    """Return the row of ``coco`` or ``ade20k`` for a config file.

    Args:
        config_path (str | Path): Path of the config; its last two parts, ``family/leaf.py``, decide.

    Returns:
        dict | None: The row, shared as in ``published``; None where the paper has no such config.
    """
    name = '/'.join(Path(config_path).parts[-2:])
    return next((row for row in published()['coco'] + published()['ade20k'] if row['config'] == name), None)
