"""Count what mmdet's ``CocoDataset`` hands out of an annotation file, all instances at once.

Source: `open-mmlab/mmdetection` ``mmdet/datasets/coco.py`` (``parse_data_info``, ``filter_data``) and
``mmdet/datasets/transforms/loading.py`` (``LoadAnnotations``).
"""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convnext_mm.datasets.census import UNASKED, Census
from convnext_mm.datasets.columns import Columns
from convnext_mm.datasets.images import Loader

#: Why instances are left out, by number; 0 stands for those that are handed out.
CODES = ('', 'image', UNASKED, 'ignore', 'outside', 'area', 'sides', 'category', 'crowd', 'segmentation', 'polygon')
#: Boxes whose numbers are all at most this may be fractions of the image.
FRACTION = 1.5


def count_coco(dataset: Any, content: Mapping, columns: Columns, loader: Loader) -> Census:
    """Return what a data set hands out of its annotation file.

    Args:
        dataset (CocoDataset): Built without reading its files.
        content: The parsed file, without flaws that mm cannot read.
        columns (Columns): Of ``content``.
        loader (Loader): How its pipeline reads masks.
    """
    chosen = [entry for entry in content['categories'] if entry['name'] in dataset.metainfo['classes']]
    labels = _find(columns.category, np.array([entry['id'] for entry in chosen], np.int64))
    places = _find(columns.image, columns.image_ids)
    # mm leaves images out by the annotations that they have, whatever these are worth.
    times, images_out = _count_images(dataset, columns, places[(labels >= 0) & (places >= 0)])
    reasons = _reasons(columns, places, labels, content, loader)
    times_of = np.where(places >= 0, times[places] if len(times) else 0, 1)
    kept = reasons == 0
    counts = np.bincount(labels[kept], times_of[kept], len(chosen)).astype(int).tolist()
    totals = np.bincount(reasons, times_of, len(CODES)).astype(int).tolist()
    out = {reason: number for reason, number in zip(CODES[1:], totals[1:]) if number}
    fractional: np.ndarray = np.all(columns.boxes <= FRACTION, axis=1) if len(columns.boxes) else np.zeros(0, bool)
    # The file of a test that others judge has images alone.
    annotated = loader.annotated and ('annotations' in content or not dataset.test_mode)
    return Census(len(times), int(times.sum()), images_out, tuple(entry['name'] for entry in chosen), counts, out,
                  fractions=bool(2 * fractional.sum() > len(fractional)), annotated=annotated)


def _find(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the place of each value in ``ids``, -1 for those that are not there."""
    if not len(ids):
        return np.full(len(values), -1)
    order = np.argsort(ids, kind='stable')
    places = order[np.searchsorted(ids, values, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[places] == values, places, -1)


def _count_images(dataset, columns, annotated):
    """Return how often each image is handed out, and how many each setting leaves out."""
    number = len(columns.image_ids)
    settings = None if dataset.test_mode else dataset.filter_cfg
    kept, out = np.ones(number, bool), {}
    if settings is not None:
        with_annotation = np.bincount(annotated, minlength=number) > 0
        empty = ~with_annotation if settings.get('filter_empty_gt', False) else np.zeros(number, bool)
        small = (columns.sizes.min(axis=1) < settings.get('min_size', 0)) & ~empty if number else empty
        kept = ~(empty | small)
        out = {'filter_cfg.filter_empty_gt': int(empty.sum()), 'filter_cfg.min_size': int(small.sum())}
    left = select(np.flatnonzero(kept), dataset._indices)
    out['indices'] = int(kept.sum()) - len(set(left.tolist()))
    return np.bincount(left, minlength=number), {setting: count for setting, count in out.items() if count}


def select(items: np.ndarray, indices: int | Sequence[int] | None) -> np.ndarray:
    """Return those of ``items`` that a data set's ``indices`` select, as mmengine does."""
    if indices is None:
        return items
    if isinstance(indices, int):
        return items[:indices] if indices >= 0 else items[indices:]
    places = np.asarray(indices, int)
    # mm fails on a place that a filter has taken away; the others say what is left.
    return items[places[(places >= -len(items)) & (places < len(items))]]


def _reasons(columns: Columns, places, labels, content, loader) -> np.ndarray:
    """Return for each instance the number in ``CODES`` of why it is left out."""
    if not len(labels):
        return np.zeros(0, np.int8)
    x, y, w, h = columns.boxes.T
    width, height = columns.sizes[places].T if len(columns.sizes) else np.zeros((2, len(places)))
    within = (np.maximum(0, np.minimum(x + w, width) - np.maximum(x, 0))
              * np.maximum(0, np.minimum(y + h, height) - np.maximum(y, 0)))
    listed = _find(columns.category, np.array([entry['id'] for entry in content['categories']], np.int64)) >= 0
    # In the order of CODES: the first that holds counts.
    reasons = np.select(
        [places < 0, listed & (labels < 0), columns.ignore, within == 0, columns.area <= 0, (w < 1) | (h < 1),
         labels < 0, columns.crowd], np.arange(1, 9, dtype=np.int8), np.int8(0))
    if loader.with_mask:
        annotations = content['annotations']
        for number in np.flatnonzero(reasons == 0).tolist():
            reason = mask_reason(annotations[number].get('segmentation'), loader.poly2mask)
            if reason:
                reasons[number] = CODES.index(reason)
    return reasons


def mask_reason(segmentation: Any, bitmaps: bool) -> str:
    """Return why mm takes an instance's segmentation for unusable, '' where it does not."""
    if not segmentation:
        return 'segmentation'
    if isinstance(segmentation, list):
        usable = any(isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
                     for polygon in segmentation)
    else:
        usable = bitmaps and isinstance(segmentation, dict) and segmentation.get('size') is not None \
            and isinstance(segmentation.get('counts'), (list, str))
    return '' if usable else 'polygon'
