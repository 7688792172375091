"""Compare the images of an evaluator's annotation file with those of the data set that it evaluates."""
import os
from collections.abc import Sequence
from typing import Any

from convnext_mm.datasets.agreement.parts import annotation_file, evaluated, evaluators
from convnext_mm.datasets.outlines import read_outline
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import shorten


def check_evaluated(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that an evaluator's annotation file has the images that its data sets load, by the same ids.

    Raises:
        UserError: It has not; the message names both files and the key to set.
    """
    for split in splits:
        for key, metric, part in evaluated(cfg, split):
            path, loaded = annotation_file({**metric, 'data_root': None}), annotation_file(part.settings)
            if path and loaded and hasattr(part.kind, 'COCOAPI') and not os.path.samefile(path, loaded):
                _compare(f'{key}.ann_file', path, f'{part.key}.ann_file', loaded)


def evaluators_of(cfg: Any, path: str) -> list[str]:
    """Return the config keys of the metrics that read a local annotation file."""
    found = []
    for split in ('train', 'val', 'test'):
        for key, metric in evaluators(cfg, split):
            own = annotation_file({**metric, 'data_root': None})
            if own and os.path.exists(path) and os.path.samefile(own, path):
                found.append(f'{key}.ann_file')
    return found


def _compare(key, path, loader_key, loaded):
    known, images = read_outline(path).images, read_outline(loaded).images
    unknown = [image for image in images if image not in known]
    other = [image for image, name in images.items() if known.get(image, name) != name]
    mend = f'set {key}={loaded}, the file of the data set'
    if '.datasets.' in loader_key:
        mend = "use mmdet's MultiDatasetsEvaluator, with a metric for each part of the ConcatDataset"
    if unknown:
        raise UserError(f'the evaluator reads {path} ({key}), which has no image of {len(unknown)} of {len(images)} '
                        f'ids of {loaded} ({loader_key}): {shorten(unknown)}: {mend}')
    if other:
        raise UserError(f'the evaluator reads {path} ({key}), where image {other[0]} is {known[other[0]]}; in '
                        f'{loaded} ({loader_key}) it is {images[other[0]]}: {mend}')
