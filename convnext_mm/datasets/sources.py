"""Build the data sets of a config without their files, tell their kind, and read their files one by one."""
import json
from collections.abc import Mapping
from typing import Any

from mmengine import fileio
from mmengine.registry import DATASETS

from convnext_mm.datasets.annotations import check_coco
from convnext_mm.datasets.flaws import Finding, Flaw
from convnext_mm.utils.configs import leaf_datasets
from convnext_mm.utils.errors import UserError


def build_unread(settings: Mapping, key: str) -> Any:
    """Return the data set of a part of a config, built without reading its files.

    Raises:
        UserError: It cannot be built; the message names ``key``.
    """
    try:
        return DATASETS.build({**settings, 'lazy_init': True})
    except Exception as error:  # A data set may be any code of mm's or of the user's.
        raise UserError(f'{key} cannot be built: {type(error).__name__}: {error}') from error


def is_coco(dataset: Any) -> bool:
    """Return whether a data set reads its annotations as mmdet's ``CocoDataset`` does."""
    own = [next((cls.__module__ for cls in type(dataset).__mro__ if name in vars(cls)), '')
           for name in ('load_data_list', 'parse_data_info')]
    return own == ['mmdet.datasets.coco'] * 2


def is_segmentation(dataset: Any) -> bool:
    """Return whether a data set is a ``BaseSegDataset`` of mmseg's."""
    return hasattr(dataset, 'label_map') and hasattr(dataset, 'reduce_zero_label')


def read_file(path: str, what: str, backend_args: dict | None = None) -> tuple[Any, Flaw | None]:
    """Return the bytes of a file and a ``Flaw``, one of which is None; ``what`` names the file in the flaw."""
    try:
        return fileio.get(path, backend_args=backend_args), None
    except FileNotFoundError:
        return None, Flaw('missing file', f'this {what} does not exist')
    except (OSError, ValueError) as error:
        # A ValueError says that the name cannot be one of a file.
        return None, Flaw(f'unreadable {what}', getattr(error, 'strerror', None) or str(error))


def read_coco(path: str, backend_args: dict | None = None) -> tuple[Any, Finding | None]:
    """Return the parsed annotation file and a ``Finding``, one of which is None."""
    content, problem = read_file(path, 'annotation file', backend_args)
    if problem:
        return None, Finding(path, problem)
    try:
        return json.loads(content), None
    except (ValueError, RecursionError) as error:
        return None, Finding(path, Flaw('unreadable annotation file', f'not JSON: {error}'))


def list_samples(dataset: Any) -> tuple[list[dict], list[Finding]]:
    """Return the data list of a segmentation data set, and findings if it has none."""
    place = dataset.ann_file or dataset.data_prefix.get('img_path') or '.'
    try:
        samples = dataset.load_data_list()
        if samples:
            return samples, []
        problem = f'no image *{dataset.img_suffix} is there'
    except Exception as error:  # Each data set lists its files in a way of its own.
        problem = f'its images cannot be listed: {type(error).__name__}: {error}'
    return [], [Finding(place, Flaw('missing file', problem))]


def mask_rule(dataset: Any) -> tuple[int, bool, int] | None:
    """Return (number of classes, reduce_zero_label, ignore_index) of the mask files; None where they are unknown."""
    # The files number the classes of the data set itself, before the config selects some of them.
    classes = type(dataset).METAINFO.get('classes') or dataset.metainfo.get('classes')
    return classes and (len(classes), dataset.reduce_zero_label, dataset.ignore_index)


def describe_damage(settings: Mapping) -> str | None:
    """Return why the data sets of a config cannot be built, naming the file; None if their files are not the reason."""
    for key, leaf in leaf_datasets(settings, 'dataset'):
        dataset = build_unread(leaf, key)
        found = []
        if is_coco(dataset):
            content, problem = read_coco(dataset.ann_file, dataset.backend_args)
            found = [problem] if problem else [Finding(dataset.ann_file, flaw) for _, flaw in check_coco(content)]
        elif is_segmentation(dataset):
            found = list_samples(dataset)[1]
        for finding in found:
            return f'{finding.file}: {finding.flaw.kind}: {finding.flaw.detail}'
    return None
