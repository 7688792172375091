"""Build the data sets of a config without their files, tell their kind, and read their files one by one."""
import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine import fileio
from mmengine.registry import DATASETS

from convnext_mm.datasets.annotations import check_coco
from convnext_mm.datasets.flaws import Finding, Flaw
from convnext_mm.datasets.reading import foreign, parse_json, read_classes, text_encoding
from convnext_mm.utils.configs import leaf_datasets
from convnext_mm.utils.errors import UserError


def build_unread(settings: Mapping, key: str) -> Any:
    """Return the data set of a part of a config, built without reading its files.

    Raises:
        UserError: It cannot be built, and the message names ``key``; or the file of its classes is in another encoding.
    """
    classes = (settings.get('metainfo') or {}).get('classes')
    if isinstance(classes, str) and os.path.isfile(classes):
        read_classes(classes)
    try:
        return DATASETS.build({**settings, 'lazy_init': True})
    except Exception as error:  # A data set may be any code of mm's or of the user's.
        raise UserError(f'{key} cannot be built: {type(error).__name__}: {error}') from error


def try_build_unread(settings: Mapping, key: str) -> Any:
    """Return a data set that has not read its files; None where it cannot be built, which the training itself says."""
    try:
        return build_unread(settings, key)
    except UserError:
        return None


def is_coco(dataset: Any) -> bool:
    """Return whether a data set reads its annotations as mmdet's ``CocoDataset`` does."""
    names = 'load_data_list', 'parse_data_info', 'filter_data'
    return [_defines(dataset, name) for name in names] == ['mmdet.datasets.coco'] * len(names)


def has_coco_fields(dataset: Any) -> bool:
    """Return whether a data set reads the fields that ``CocoDataset`` reads, whatever it makes of them."""
    return (_defines(dataset, 'parse_data_info') == 'mmdet.datasets.coco'
            and _defines(dataset, 'load_data_list') in ('mmdet.datasets.coco', 'mmdet.datasets.objects365'))


def _defines(dataset, name):
    """Return the module that defines a method of a data set."""
    return next((cls.__module__ for cls in type(dataset).__mro__ if name in vars(cls)), '')


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
    """Return the parsed annotation file, None where it cannot be parsed, and a ``Finding`` or None."""
    content, problem = read_file(path, 'annotation file', backend_args)
    if problem:
        return None, Finding(path, problem)
    try:
        parsed, flaw = parse_json(content)
    except (ValueError, RecursionError) as error:
        return None, Finding(path, Flaw('unreadable annotation file', f'not JSON: {error}'))
    return parsed, flaw and Finding(path, flaw)


def list_samples(dataset: Any) -> tuple[list[dict], list[Finding]]:
    """Return the data list of a segmentation data set, and findings if it has none or if mm reads another one."""
    place = dataset.ann_file or dataset.data_prefix.get('img_path') or '.'
    found = check_names(dataset)
    try:
        with _names_in_utf8(dataset) if found else contextlib.nullcontext():
            samples = dataset.load_data_list()
        if samples:
            return samples, [found] if found else []
        problem = f'no image *{dataset.img_suffix} is there'
    except Exception as error:  # Each data set lists its files in a way of its own.
        problem = f'its images cannot be listed: {type(error).__name__}: {error}'
    return [], [Finding(place, Flaw('missing file', problem))]


def check_names(dataset: Any) -> Finding | None:
    """Return the finding of a segmentation data set whose list of names is in another encoding than mm reads."""
    if not dataset.ann_file or not os.path.isfile(dataset.ann_file):
        return None
    with open(dataset.ann_file, 'rb') as file:
        encoding = text_encoding(file.read(4))
    return None if encoding == 'utf-8' else Finding(dataset.ann_file, foreign(encoding))


@contextlib.contextmanager
def _names_in_utf8(dataset):
    """Let a data set read a copy of its list of names in UTF-8."""
    original = dataset.ann_file
    content = Path(original).read_bytes()
    with tempfile.NamedTemporaryFile('w', suffix='.txt', encoding='utf-8') as copy:
        copy.write(content.decode(text_encoding(content)))
        copy.flush()
        dataset.ann_file = copy.name
        try:
            yield
        finally:
            dataset.ann_file = original


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
        if hasattr(dataset, 'COCOAPI'):
            content, problem = read_coco(dataset.ann_file, dataset.backend_args)
            found = [problem] if problem else [Finding(dataset.ann_file, flaw) for _, flaw in check_coco(content)]
        elif is_segmentation(dataset):
            found = list_samples(dataset)[1]
        for finding in found:
            return f'{finding.file}: {finding.flaw.kind}: {finding.flaw.detail}'
    return None
