"""Go over the data sets of a config: every image, annotation and mask, in parallel, without building a model.

COCO files are read here; which images and masks a segmentation data set has is asked of the data set itself. Whatever
an annotation file or a folder says is looked at in the way of the config: its paths, classes, suffixes and pipelines.
"""
import json
import os
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from mmengine import fileio
from mmengine.registry import DATASETS, init_default_scope

from convnext_mm.datasets.checks import Flaw, check_coco, check_image, check_instance, check_mask, loader_of
from convnext_mm.utils.configs import leaf_datasets
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.progress import Bar

SPLITS = ('train', 'val', 'test')
#: Images that a process is given at a time.
CHUNK = 8


class Finding(NamedTuple):
    """A flaw with the file that has it.

    Attributes:
        file (str): Path.
        flaw (Flaw): What is wrong.
        place (tuple | None): Where an entry of the annotation file is wrong: its list and its number there.
    """

    file: str
    flaw: Flaw
    place: tuple | None = None


class Scan(NamedTuple):
    """What was found in a data set.

    Attributes:
        keys (list[str]): The config's keys under which the data set stands.
        dataset (BaseDataset): Built, nothing read.
        content: The parsed annotation file of a ``CocoDataset``; the data list of a segmentation data set.
        images (int): How many were looked at.
        findings (list[Finding]): In the order of the images.
    """

    keys: list
    dataset: Any
    content: Any
    images: int
    findings: list


def scan_config(cfg):
    """Check the data sets of a config, each once, with progress on stderr.

    Args:
        cfg (mmengine.Config): Of a detector on a ``CocoDataset`` or a segmentor on a ``BaseSegDataset`` (subclasses
            included); only its data loaders are used.

    Returns:
        tuple: A list of ``Scan``, and a list of (key, type name) of data sets that are of another kind.

    Raises:
        UserError: The config has no data sets, or one cannot be built.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    found, others = {}, []
    for split in SPLITS:
        settings = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
        for key, leaf in leaf_datasets(settings, f'{split}_dataloader.dataset') if settings else ():
            dataset = _build(leaf, key)
            if not (_is_coco(dataset) or _is_segmentation(dataset)):
                others.append((key, type(dataset).__name__))
                continue
            identity = (type(dataset), dataset.ann_file, tuple(sorted(dataset.data_prefix.items())),
                        loader_of(dataset.pipeline))
            found.setdefault(identity, (dataset, []))[1].append(key)
    if not found and not others:
        raise UserError('the config has no data sets: expected train_dataloader, val_dataloader or test_dataloader')
    return [(_scan_coco if _is_coco(dataset) else _scan_segmentation)(dataset, keys)
            for dataset, keys in found.values()], others


def _build(settings, key):
    try:
        return DATASETS.build({**settings, 'lazy_init': True})
    except Exception as error:  # A data set is a program of mm's or of the user's.
        raise UserError(f'{key} cannot be built: {type(error).__name__}: {error}') from error


def _is_coco(dataset):
    """Whether a data set reads its annotations as mmdet's ``CocoDataset`` does."""
    own = [next((cls.__module__ for cls in type(dataset).__mro__ if name in vars(cls)), '')
           for name in ('load_data_list', 'parse_data_info')]
    return own == ['mmdet.datasets.coco'] * 2


def _is_segmentation(dataset):
    return hasattr(dataset, 'label_map') and hasattr(dataset, 'reduce_zero_label')


def read_coco(path, backend_args=None):
    """The parsed annotation file and a ``Finding``, of which one is None."""
    content, problem = read_file(path, 'annotation file', backend_args)
    if problem:
        return None, Finding(path, problem)
    try:
        return json.loads(content), None
    except (ValueError, RecursionError) as error:
        return None, Finding(path, Flaw('unreadable annotation file', f'not JSON: {error}'))


def read_file(path, what, backend_args=None):
    """The bytes of a file and a ``Flaw``, of which one is None."""
    try:
        return fileio.get(path, backend_args=backend_args), None
    except FileNotFoundError:
        return None, Flaw('missing file', f'this {what} does not exist')
    except (OSError, ValueError) as error:
        # A ValueError where the name itself is none.
        return None, Flaw(f'unreadable {what}', getattr(error, 'strerror', None) or str(error))


def describe_damage(settings):
    """What keeps the data sets of a config from being built, naming the file; None if it is not their files."""
    for key, leaf in leaf_datasets(settings, 'dataset'):
        dataset = _build(leaf, key)
        if _is_coco(dataset):
            content, problem = read_coco(dataset.ann_file, dataset.backend_args)
            found = [problem] if problem else [Finding(dataset.ann_file, flaw) for _, flaw in check_coco(content)]
        else:
            found = _list_samples(dataset)[1] if _is_segmentation(dataset) else []
        for finding in found:
            return f'{finding.file}: {finding.flaw.kind}: {finding.flaw.detail}'
    return None


def _scan_coco(dataset, keys):
    content, problem = read_coco(dataset.ann_file, dataset.backend_args)
    if problem:
        return Scan(keys, dataset, None, 0, [problem])
    findings = [Finding(dataset.ann_file, flaw, place) for place, flaw in check_coco(content)]
    if any(finding.place is None for finding in findings):
        return Scan(keys, dataset, None, 0, findings)
    # A list: damaged names need not be text.
    names = [category.get('name') for category in content['categories'] if isinstance(category, dict)]
    lacking = [name for name in dataset.metainfo.get('classes', ()) if name not in names]
    if lacking:
        findings.append(Finding(dataset.ann_file, Flaw(
            'unknown category', f'{keys[0]} has the classes {lacking[:5]}, which the file does not have')))
    damaged = {finding.place for finding in findings}
    asked = {category['id'] for number, category in enumerate(content['categories'])
             if ('categories', number) not in damaged and category['name'] in dataset.metainfo['classes']}
    instances = defaultdict(list)
    for number, entry in enumerate(content.get('annotations', [])):
        # mmdet leaves the others out.
        if ('annotations', number) not in damaged and entry['category_id'] in asked and not entry.get('ignore'):
            instances[entry['image_id']].append((number, entry))
    loader = loader_of(dataset.pipeline)
    folder = dataset.data_prefix.get('img', '')
    tasks = [(os.path.join(folder, image['file_name']), loader, dataset.backend_args, number, image,
              instances[image['id']])
             for number, image in enumerate(content['images']) if ('images', number) not in damaged]
    findings += _run(check_coco_image, tasks, keys[0])
    return Scan(keys, dataset, content, len(tasks), findings)


def check_coco_image(task):
    """Findings of one image of a COCO file and of its instances (number in the file, entry)."""
    path, loader, backend_args, number, image, instances = task
    size = image['width'], image['height']
    content, flaw = read_file(path, 'image', backend_args)
    if flaw is None:
        flaw = check_image(content, loader, size)[1]
    findings = [] if flaw is None else [Finding(path, flaw, ('images', number))]
    # For an image of another size, everything else would be wrong, too.
    for place, entry in instances if flaw is None or flaw.kind != 'other size' else ():
        for flaw in check_instance(entry['bbox'], entry.get('segmentation'), *size, loader.with_mask):
            flaw = flaw._replace(detail=f'annotation {entry["id"]!r}: {flaw.detail}')
            findings.append(Finding(path, flaw, ('annotations', place)))
    return findings


def _scan_segmentation(dataset, keys):
    samples, problems = _list_samples(dataset)
    if problems:
        return Scan(keys, dataset, None, 0, problems)
    loader, rule = loader_of(dataset.pipeline), mask_rule(dataset)
    tasks = [(sample['img_path'], sample.get('seg_map_path'), loader, dataset.backend_args, rule) for sample in samples]
    findings = _run(check_pair, tasks, keys[0])
    return Scan(keys, dataset, samples, len(samples), findings + _masks_alone(dataset, samples))


def _list_samples(dataset):
    """The data list of a segmentation data set, and findings if there is none."""
    place = dataset.ann_file or dataset.data_prefix.get('img_path') or '.'
    try:
        samples = dataset.load_data_list()
        if samples:
            return samples, []
        problem = f'no image *{dataset.img_suffix} is there'
    except Exception as error:  # As many ways to list files as data sets.
        problem = f'its images cannot be listed: {type(error).__name__}: {error}'
    return [], [Finding(place, Flaw('missing file', problem))]


def mask_rule(dataset):
    """(number of classes in the files, reduce_zero_label, ignore_index), for ``check_mask``; None if unknown."""
    # The files number the data set's own classes, before any selection of them.
    classes = type(dataset).METAINFO.get('classes') or dataset.metainfo.get('classes')
    return classes and (len(classes), dataset.reduce_zero_label, dataset.ignore_index)


def check_pair(task):
    """Findings of an image and its index mask."""
    image, mask, loader, backend_args, rule = task
    content, flaw = read_file(image, 'image', backend_args)
    size = None
    if flaw is None:
        size, flaw = check_image(content, loader)
    findings = [] if flaw is None else [Finding(image, flaw)]
    if mask:
        content, flaw = read_file(mask, 'mask', backend_args)
        if flaw is None:
            flaw = check_mask(content, loader, size, rule)
        if flaw:
            findings.append(Finding(mask, flaw))
    return findings


def _masks_alone(dataset, samples):
    """Findings of masks without an image, where the folders alone say what belongs to the data set."""
    folder = dataset.data_prefix.get('seg_map_path')
    if dataset.ann_file or not folder or not os.path.isdir(folder):
        return []
    known = {os.path.normpath(sample['seg_map_path']) for sample in samples if sample.get('seg_map_path')}
    return [Finding(str(path), Flaw('missing file', 'this mask has no image'))
            for path in sorted(Path(folder).rglob(f'*{dataset.seg_map_suffix}')) if os.path.normpath(path) not in known]


def _run(function, tasks, key):
    """Findings of all tasks, which are done by one process per core."""
    if not tasks:
        return []
    findings, bar = [], Bar(len(tasks), f'images of {key}')
    try:
        # Few tasks are not worth a process each.
        with ProcessPoolExecutor(min(_cores(), -(-len(tasks) // CHUNK)), initializer=_be_quiet) as pool:
            for found in pool.map(function, tasks, chunksize=CHUNK):
                findings += found
                bar.add()
    except BrokenProcessPool:
        raise UserError(f'a process that reads {key} was killed, most likely for want of memory, after '
                        f'{bar.done} of {len(tasks)} images') from None
    return findings


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def _be_quiet():
    """Keep what decoders say about damaged files off the terminal: the findings say it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stderr__.fileno())
