"""Count the pixels of index masks by class, as mmseg's ``LoadAnnotations`` turns their values into labels.

Source: `open-mmlab/mmsegmentation` ``mmseg/datasets/transforms/loading.py``, ``_load_seg_map``.
"""
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from convnext_mm.datasets.census import Census
from convnext_mm.datasets.census_coco import select
from convnext_mm.datasets.flaws import Flaw
from convnext_mm.datasets.images import Loader, check_mask_values, load_mask
from convnext_mm.datasets.sources import mask_rule, read_file

#: The label that mmseg gives to pixels that nobody labelled.
IGNORED = 255
#: Before training, at most so many masks are read, in at most so many seconds, but so many at least.
MOST, SECONDS, LEAST = 256, 5, 8


def label_table(reduce_zero_label: bool, label_map: dict | None) -> np.ndarray:
    """Return the label, 0 to 255, of each value that a mask may hold, 0 to 255."""
    table = np.arange(256)
    if reduce_zero_label:
        table = np.where(table == 0, IGNORED, table) - 1
        table[table == IGNORED - 1] = IGNORED
    old = table.copy()
    for value, label in (label_map or {}).items():
        table[old == value] = label
    return table


def count_values(mask: np.ndarray) -> np.ndarray:
    """Return how many pixels of a mask hold each value, 0 to 255; as mmseg, which keeps the lowest 8 bits of others."""
    return np.bincount(mask.astype(np.uint8).ravel(), minlength=256)


def count_masks(dataset: Any, values: Iterable[np.ndarray], read: int, images: int) -> Census:
    """Return what a segmentation data set hands out.

    Args:
        dataset (BaseSegDataset): Built without reading its files.
        values (Iterable[ndarray]): Of each mask that was read, see ``count_values``.
        read (int): How many masks those are.
        images (int): How many images there are, before ``indices`` selects some.
    """
    table = label_table(dataset.reduce_zero_label, dataset.label_map)
    labels = np.bincount(table, sum(values, np.zeros(256)), 256).astype(int)
    classes = tuple(dataset.metainfo.get('classes') or ())
    # A data set's ignore_index changes no pixel, but says what the heads ignore.
    ignored = {IGNORED, dataset.ignore_index} & set(range(256))
    counts = [0 if label in ignored else int(labels[label]) for label in range(len(classes))]
    left = len(select(np.arange(images), dataset._indices))
    out = {'indices': images - left} if left < images else {}
    said = ' and '.join(str(label) for label in sorted(ignored, reverse=True)) + ' means ignore'
    said += ', and with reduce_zero_label=True so does 0' if dataset.reduce_zero_label else ''
    return Census(images, left, out, classes, counts, {}, int(sum(labels[label] for label in ignored)), read,
                  settings=said)


def sample_masks(dataset: Any, samples: Sequence[dict], loader: Loader) -> tuple[Census, tuple[str, Flaw] | None]:
    """Count some of the masks of a data set, evenly spaced, until the first that is wrong or time is up.

    Args:
        dataset (BaseSegDataset): Built without reading its files.
        samples (list[dict]): Its data list.
        loader (Loader): How its pipeline reads masks.

    Returns:
        tuple: The ``Census``, and the path and the ``Flaw`` of a mask that is no index map or has values out of range;
        None for no such mask.
    """
    chosen = select(np.arange(len(samples)), dataset._indices)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(MOST, len(chosen)), dtype=int)] if len(chosen) else chosen
    rule, total, end = mask_rule(dataset), np.zeros(256), time.monotonic() + SECONDS
    read = 0
    for number, place in enumerate(chosen.tolist()):
        path = samples[place].get('seg_map_path')
        if number >= LEAST and time.monotonic() > end:
            break
        content, flaw = read_file(path, 'mask', dataset.backend_args) if path else (None, None)
        if content is None:
            continue
        mask, flaw = load_mask(content, loader)
        # Training passes over a damaged file and counts it; if it is among the first few, there may be many.
        if flaw and flaw.kind == 'unreadable mask' and number >= LEAST:
            continue
        flaw = flaw or check_mask_values(mask, rule)
        if flaw:
            return count_masks(dataset, [total], read, len(samples)), (path, flaw)
        total, read = total + count_values(mask), read + 1
    return count_masks(dataset, [total], read, len(samples)), None
