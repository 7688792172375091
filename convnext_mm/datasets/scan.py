"""Check the data sets of a config whole: every image, annotation and mask, in parallel, without building a model.

Paths, classes, suffixes and pipelines are those of the config. COCO files and folders of classes are read here; a
segmentation data set lists its images and masks itself; of a data set with instances in another format, what it hands
out is counted.
"""
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.dataset import BaseDataset

from convnext_mm.datasets.annotations import check_coco, check_instance
from convnext_mm.datasets.census import Census
from convnext_mm.datasets.census_built import build_census
from convnext_mm.datasets.census_coco import count_coco, select
from convnext_mm.datasets.census_masks import count_masks, count_values
from convnext_mm.datasets.class_folders import (
    ClassFolders,
    check_class_folders,
    check_class_image,
    compare_splits,
    list_class_folders,
    reads_class_folders,
)
from convnext_mm.datasets.columns import read_columns
from convnext_mm.datasets.flaws import Finding, Flaw
from convnext_mm.datasets.images import check_image_file, check_mask_file, loader_of
from convnext_mm.datasets.sources import (
    build_unread,
    is_coco,
    is_segmentation,
    list_samples,
    mask_rule,
    read_coco,
    read_file,
)
from convnext_mm.utils.configs import leaf_datasets
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.progress import Bar
from convnext_mm.utils.scopes import set_default_scope

SPLITS = ('train', 'val', 'test')
#: Images that a process is given at a time.
CHUNK = 8


class Scan(NamedTuple):
    """What was found in a data set.

    Attributes:
        keys (list[str]): The config's keys under which the data set stands.
        dataset (BaseDataset): Built without reading its files.
        content: The parsed annotation file of a ``CocoDataset``; the data list of a segmentation data set; the
            ``ClassFolders`` of a classification data set; None where it cannot be read here.
        images (int): How many were checked.
        findings (list[Finding]): In the order of the images.
        census (Census | None): What it hands out; None where its files are too damaged to say. Defaults to None.
    """

    keys: list
    dataset: Any
    content: Any
    images: int
    findings: list
    census: Census | None = None


def scan_config(cfg: Any) -> tuple[list[Scan], list[tuple[str, str]]]:
    """Check the data sets of a config, each once, with progress on stderr.

    Args:
        cfg (mmengine.Config): Only its data loaders are used. Every file is looked at of data sets that read as a
            ``CocoDataset``, a ``BaseSegDataset`` or mmpretrain's class folders do; others with instances are built, and
            what they hand out is counted.

    Returns:
        tuple: A list of ``Scan``, and a list of (key, type name) of data sets that hand out something else.

    Raises:
        UserError: The config has no data sets, or one cannot be built.
    """
    set_default_scope(cfg)
    found: dict[tuple, tuple] = {}
    others = []
    for split in SPLITS:
        settings = (cfg.get(f'{split}_dataloader') or {}).get('dataset') or {}
        for key, leaf in leaf_datasets(settings, f'{split}_dataloader.dataset') if settings else ():
            dataset = build_unread(leaf, key)
            if not isinstance(dataset, BaseDataset):
                others.append((key, type(dataset).__name__))
                continue
            identity = (type(dataset), dataset.ann_file, tuple(sorted(dataset.data_prefix.items())),
                        loader_of(dataset.pipeline), _selection(dataset))
            found.setdefault(identity, (dataset, []))[1].append(key)
    if not found and not others:
        raise UserError('the config has no data sets: expected train_dataloader, val_dataloader or test_dataloader')
    scans: list[Scan] = []
    for dataset, keys in found.values():
        scanned = _scan(dataset, keys)
        scans += [scanned] if scanned else []
        others += [] if scanned else [(key, type(dataset).__name__) for key in keys]
    _compare_classes(scans)
    return scans, others


def _scan(dataset, keys):
    """Return the ``Scan`` of a data set; None for one that hands out something else than masks or instances."""
    if is_coco(dataset):
        return _scan_coco(dataset, keys)
    if is_segmentation(dataset):
        return _scan_segmentation(dataset, keys)
    if reads_class_folders(dataset) and not dataset.ann_file and dataset.with_label:
        return _scan_classes(dataset, keys)
    census, problem = build_census(dataset)
    if census is None and problem is None:
        return None
    return Scan(keys, dataset, None, census.images if census else 0, [problem] if problem else [], census)


def _scan_classes(dataset, keys):
    """Return the ``Scan`` of folders of classes."""
    if not os.path.isdir(dataset.img_prefix):
        return Scan(keys, dataset, None, 0, [Finding(dataset.img_prefix, Flaw('missing file', 'there is no folder'))])
    found = list_class_folders(dataset)
    loader = loader_of(dataset.pipeline)
    # mmpretrain keeps no arguments of a storage.
    backend_args = getattr(dataset, 'backend_args', None)
    tasks = [(path, loader, backend_args) for path in chain.from_iterable(found.images.values())]
    findings = chain.from_iterable(_run(check_class_image, tasks, keys[0]))
    return Scan(keys, dataset, found, len(tasks), [*check_class_folders(found), *findings])


def _compare_classes(scans):
    """Add a finding to the data set whose class folders are not those of the first."""
    folders = {scan.keys[0]: scan for scan in scans if isinstance(scan.content, ClassFolders)}
    differing = compare_splits({key: list(scan.content.images) for key, scan in folders.items()})
    if differing:
        scan = folders[differing[0]]
        scan.findings.append(Finding(scan.content.root, Flaw('other classes', differing[1])))


def _selection(dataset):
    """Return what decides which images and classes of its files a data set hands out."""
    return repr((dataset._indices, None if dataset.test_mode else dataset.filter_cfg, dataset.metainfo.get('classes')))


def _scan_coco(dataset, keys):
    content, problem = read_coco(dataset.ann_file, dataset.backend_args)
    if content is None:
        return Scan(keys, dataset, None, 0, [problem])
    findings = [Finding(dataset.ann_file, flaw, place) for place, flaw in check_coco(content)]
    if any(finding.place is None for finding in findings):
        return Scan(keys, dataset, None, 0, findings)
    if problem:
        findings.insert(0, problem)
    # A list, as damaged names may be anything.
    names = [category.get('name') for category in content['categories'] if isinstance(category, dict)]
    lacking = [name for name in dataset.metainfo.get('classes', ()) if name not in names]
    if lacking:
        findings.append(Finding(dataset.ann_file, Flaw(
            'unknown category', f'{keys[0]} has the classes {lacking[:5]}, which the file does not have')))
    tasks = _coco_tasks(dataset, content, {finding.place for finding in findings})
    findings += chain.from_iterable(_run(check_coco_image, tasks, keys[0]))
    columns, _ = read_columns(content)
    census = columns and count_coco(dataset, content, columns, loader_of(dataset.pipeline))
    return Scan(keys, dataset, content, len(tasks), findings, census)


def _coco_tasks(dataset, content, damaged):
    """Return a task for each image of a COCO file, without the entries at the places in ``damaged``."""
    asked = {category['id'] for number, category in enumerate(content['categories'])
             if ('categories', number) not in damaged and category['name'] in dataset.metainfo['classes']}
    instances = defaultdict(list)
    for number, entry in enumerate(content.get('annotations', [])):
        # mmdet leaves the others out.
        if ('annotations', number) not in damaged and entry['category_id'] in asked and not entry.get('ignore'):
            instances[entry['image_id']].append((number, entry))
    loader, folder = loader_of(dataset.pipeline), dataset.data_prefix.get('img', '')
    return [(os.path.join(folder, image['file_name']), loader, dataset.backend_args, number, image,
             instances[image['id']])
            for number, image in enumerate(content['images']) if ('images', number) not in damaged]


def check_coco_image(task: tuple) -> list[Finding]:
    """Return the findings of one image of a COCO file and of its instances (number in the file, entry)."""
    path, loader, backend_args, number, image, instances = task
    size = image['width'], image['height']
    content, flaw = read_file(path, 'image', backend_args)
    if flaw is None:
        flaw = check_image_file(content, loader, size)[1]
    findings = [] if flaw is None else [Finding(path, flaw, ('images', number))]
    # In an image of another size, everything else would be wrong, too.
    for place, entry in instances if flaw is None or flaw.kind != 'other size' else ():
        for flaw in check_instance(entry['bbox'], entry.get('segmentation'), *size, loader.with_mask):
            flaw = flaw._replace(detail=f'annotation {entry["id"]!r}: {flaw.detail}')
            findings.append(Finding(path, flaw, ('annotations', place)))
    return findings


def _scan_segmentation(dataset, keys):
    samples, problems = list_samples(dataset)
    if not samples:
        return Scan(keys, dataset, None, 0, problems)
    loader, rule = loader_of(dataset.pipeline), mask_rule(dataset)
    tasks = [(sample['img_path'], sample.get('seg_map_path'), loader, dataset.backend_args, rule) for sample in samples]
    pairs = _run(check_pair, tasks, keys[0])
    findings = problems + [finding for found, _ in pairs for finding in found] + _masks_alone(dataset, samples)
    chosen = select(np.arange(len(samples)), dataset._indices).tolist()
    values = [pairs[place][1] for place in chosen if pairs[place][1] is not None]
    return Scan(keys, dataset, samples, len(samples), findings,
                count_masks(dataset, values, len(values), len(samples)) if values else None)


def check_pair(task: tuple) -> tuple[list[Finding], Any]:
    """Return the findings of an image and its index mask, and how many pixels of the mask hold each value, or None."""
    image, path, loader, backend_args, rule = task
    content, flaw = read_file(image, 'image', backend_args)
    size = values = None
    if flaw is None:
        size, flaw = check_image_file(content, loader)
    findings = [] if flaw is None else [Finding(image, flaw)]
    if path:
        content, flaw = read_file(path, 'mask', backend_args)
        if flaw is None:
            mask, flaw = check_mask_file(content, loader, size, rule)
            values = None if mask is None else count_values(mask)
        if flaw:
            findings.append(Finding(path, flaw))
    return findings, values


def _masks_alone(dataset, samples):
    """Return findings of masks without an image, where the folders alone say what belongs to the data set."""
    folder = dataset.data_prefix.get('seg_map_path')
    if dataset.ann_file or not folder or not os.path.isdir(folder):
        return []
    known = {os.path.normpath(sample['seg_map_path']) for sample in samples if sample.get('seg_map_path')}
    return [Finding(str(path), Flaw('missing file', 'this mask has no image'))
            for path in sorted(Path(folder).rglob(f'*{dataset.seg_map_suffix}')) if os.path.normpath(path) not in known]


def _run(function: Callable[[tuple], Any], tasks: list, key: str) -> list:
    """Return the results of all tasks, which one process per core does."""
    if not tasks:
        return []
    results, bar = [], Bar(len(tasks), f'images of {key}')
    try:
        # Few tasks are not worth a process each.
        with ProcessPoolExecutor(min(_cores(), -(-len(tasks) // CHUNK)), initializer=_be_quiet) as pool:
            for result in pool.map(function, tasks, chunksize=CHUNK):
                results.append(result)
                bar.add()
    except BrokenProcessPool:
        raise UserError(f'a process that reads {key} was killed, most likely for want of memory, after '
                        f'{bar.done} of {len(tasks)} images') from None
    return results


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def _be_quiet():
    """Keep what decoders say about damaged files off the terminal: the findings say it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stderr__.fileno())
