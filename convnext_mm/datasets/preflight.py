"""Find what is wrong with the data of a config before anything is built: files, categories and mask values.

It checks what mmdet's ``CocoDataset``, mmseg's ``BaseSegDataset``, mmpretrain's ``CustomDataset`` and their subclasses
read from local disks. Anything else passes unchecked.
"""
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import DATASETS

from convnext_mm.datasets.agreement.categories import COCO_METRICS
from convnext_mm.datasets.agreement.parts import evaluators, find_class
from convnext_mm.datasets.agreement.weights import check_ignored_pixels
from convnext_mm.datasets.annotations import check_reach
from convnext_mm.datasets.census import tell, tell_nothing
from convnext_mm.datasets.census_coco import count_coco
from convnext_mm.datasets.class_folders import check_names, compare_splits, reads_class_folders, root_of
from convnext_mm.datasets.columns import find_fatal, read_columns
from convnext_mm.datasets.heads import check_heads, dataset_classes, head_classes, settings_for
from convnext_mm.datasets.images import loader_of
from convnext_mm.datasets.outlines import is_kept, keep_outline
from convnext_mm.datasets.preflight_masks import FIX, check_masks, reads_otherwise
from convnext_mm.datasets.reading import parse_json
from convnext_mm.datasets.sources import has_coco_fields, is_coco, try_build_unread
from convnext_mm.utils.configs import leaf_datasets, type_name
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.installation import DEMO, command
from convnext_mm.utils.text import shorten

#: Data set type -> (what should be there, where it is published).
PUBLISHED_DATA = {
    'CocoDataset': ('COCO 2017: annotations/instances_{train,val}2017.json, train2017/ and val2017/',
                    'https://cocodataset.org/#download'),
    'ADE20KDataset': ('the ADE20K scene parsing challenge: images/{training,validation}/*.jpg and '
                      'annotations/{training,validation}/*.png',
                      'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'),
    'ImageNet': ('ImageNet-1K: train/ and val/ with a folder of images for each of the 1000 classes, such as '
                 'train/n01440764/*.JPEG', 'https://image-net.org/download.php'),
    'CustomDataset': ('a folder of images for each class (ImageNet-22K has 21841 of them, such as n01440764/*.JPEG)',
                      None),
}
_FILES_READ = 8


def check_data(cfg: Any, splits: Sequence[str]) -> str:
    """Make sure that the data sets of a config are there, fit its heads and hand out something.

    Args:
        cfg (mmengine.Config): A detection, segmentation or classification config.
        splits (Sequence[str]): Those of ``train``, ``val`` and ``test`` that will be used.

    Returns:
        str: What a user should know of what is lost, for ``warn``; empty where nothing is.

    Raises:
        UserError: The first that is wrong, or a data set of which nothing is left; it names the path or the counts,
            what should be there, and the config keys to set.
    """
    told: list[str] = []
    folders: dict[str, list[str]] = {}
    for split in splits:
        loader, censuses = f'{split}_dataloader', []
        if cfg.get(loader) is None:
            continue
        for key, dataset in leaf_datasets(cfg[loader].get('dataset') or {}, f'{loader}.dataset'):
            kind = find_class(dataset, DATASETS)
            _check_classes(dataset, key)
            census = None
            if hasattr(kind, 'COCOAPI'):
                census = _check_coco(dataset, kind, key, cfg.model)
            elif hasattr(kind, 'get_label_map'):
                census = _check_segmentation(dataset, kind, key, cfg.model)
            elif kind is not None and reads_class_folders(kind):
                folders[key] = _check_class_folders(dataset, kind, key, cfg.model)
            if census:
                censuses.append((key, census))
        told += _judge(censuses, trains=split == 'train')
        _check_evaluators(cfg, split)
    differing = compare_splits({key: names for key, names in folders.items() if names})
    if differing:
        raise UserError(differing[1])
    return f'What is used of the data: {"; ".join(told)}; {command("check_data")} counts it all' if told else ''


def warn(told: str, logger: str | logging.Logger = 'current') -> None:
    """Log what ``check_data`` told, if anything; with a runner's logger, it is in the log file of the run."""
    if told:
        print_log(told, logger, logging.WARNING)


def _check_class_folders(dataset, kind, key, model):
    """Check the class folders of a data set of mmpretrain's; return their names, or no names where it has a list."""
    classes, root = dataset_classes(dataset, kind), root_of(dataset)
    names = list(classes or ())
    if root is not None and _is_local(dataset, root):
        if not os.path.isdir(root) or not any(os.scandir(root)):
            raise _missing(root, key, 'data_root', dataset, kind)
        names = check_names(root, classes, key, model)
    if names:
        check_heads(model, names, key)
    return names if root else []


def _check_evaluators(cfg, split):
    for key, evaluator in evaluators(cfg, split):
        path = evaluator.get('ann_file')
        if not path or not _is_local(evaluator, path):
            continue
        if not os.path.isfile(path):
            raise UserError(f'{path} ({key}.ann_file) does not exist; expected the annotation file of '
                            f'{split}_dataloader.dataset: set it by --cfg-options {key}.ann_file=FILE')
        # Other metrics read files of other kinds.
        if type_name(evaluator) in COCO_METRICS and not is_kept(path):
            _check_evaluated(path, key)


def _check_evaluated(path, key):
    """Check an evaluator's own annotation file, which pycocotools reads and draws."""
    content = _parse_coco(path, key)
    flaw = read_columns(content)[1]
    if flaw and flaw.kind != 'damaged entry':
        # Ids of annotations are renumbered before they are read.
        flaw = find_fatal(content, ('damaged entry',))
    if flaw:
        raise UserError(f'{path} ({key}.ann_file): {flaw.kind}: {flaw.detail}; {FIX}')


def _path(dataset, relative):
    """Return a path of a data set as mm joins it: below ``data_root`` unless absolute."""
    return os.path.join(dataset.get('data_root') or '', relative or '')


def _is_local(settings, path):
    return not settings.get('backend_args') and '://' not in path


def _missing(path, key, field, dataset, kind):
    """Return the error that a path, set at ``key.field``, does not exist or is an empty folder."""
    root = dataset.get('data_root')
    what = 'is an empty folder' if os.path.isdir(path) else 'does not exist'
    expected, published = PUBLISHED_DATA.get(kind.__name__, ('the data set of this config', None))
    source = f', published at {published}' if published else ''
    return UserError(f'{path} {what} ({key}.{field}, with data_root={root!r}); expected there: {expected}{source}; '
                     f'give your own place by --cfg-options {key}.data_root=DIR, or try `{DEMO}`, which needs no '
                     'data set')


def _require_folder(dataset, kind, key, name):
    """Return the path of a data prefix, after making sure that a local one has files."""
    folder = _path(dataset, (dataset.get('data_prefix') or {}).get(name))
    if _is_local(dataset, folder) and (not os.path.isdir(folder) or not any(os.scandir(folder))):
        raise _missing(folder, key, f'data_prefix.{name}', dataset, kind)
    return folder


def _check_coco(dataset, kind, key, model):
    """Check a data set in COCO's format; return the census of what it hands out, or None."""
    annotations = None
    classes = dataset_classes(dataset, kind)
    path = _path(dataset, dataset.get('ann_file'))
    if _is_local(dataset, path):
        if not os.path.isfile(path):
            raise _missing(path, key, 'ann_file', dataset, kind)
        annotations = _parse_coco(path, key)
        _check_categories(annotations['categories'], classes, path, key, model)
        folder = _require_folder(dataset, kind, key, 'img')
        # Training passes over a missing image; if the first few are all missing, the folder is wrong.
        first = [os.path.join(folder, str(image.get('file_name'))) for image in annotations['images'][:_FILES_READ]]
        if first and _is_local(dataset, folder) and not any(map(os.path.isfile, first)):
            raise _missing(first[0], key, 'data_prefix.img', dataset, kind)
    if classes:
        check_heads(model, classes, key)
    return None if annotations is None else _count_coco(dataset, annotations, path, key)


def _check_classes(dataset, key):
    """Stop at a text in place of several classes, of which mm takes each letter or each part for a class."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if isinstance(classes, str) and not os.path.isfile(classes):
        raise UserError(f'{key}.metainfo.classes is the text {classes!r}, neither a file of names nor a tuple of them: '
                        f'a tuple of one name has a comma, {key}.metainfo.classes="({classes!r},)"')


def _count_coco(dataset, annotations, path, key):
    """Refuse a COCO file that mm cannot use; return what is handed out of it, None where that is not known."""
    built = try_build_unread(dataset, key)
    if built is None or not has_coco_fields(built):
        return None
    columns, flaw = read_columns(annotations)
    if flaw:
        raise UserError(f'{path} ({key}.ann_file): {flaw.kind}: {flaw.detail}; {FIX}')
    # What others make of it is counted when they have been built.
    return count_coco(built, annotations, columns, loader_of(built.pipeline)) if is_coco(built) else None


def _judge(censuses, trains):
    """Refuse a data set of which nothing is left; return in words what a user should know of the rest."""
    for key, census in censuses:
        nothing = tell_nothing(census, key, trains)
        if nothing:
            raise UserError(nothing)
    return tell(censuses)


def _parse_coco(path, key):
    """Return the content of a COCO file that has the lists it needs and no coordinates out of reach."""
    try:
        annotations, flaw = parse_json(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} ({key}.ann_file) is not JSON: {error}; expected a COCO annotation file') from None
    if flaw:
        raise UserError(f'{path} ({key}.ann_file): {flaw.detail}; {FIX}')
    content = annotations if isinstance(annotations, dict) else {}
    missing = [name for name in ('images', 'annotations', 'categories')
               if not isinstance(content.get(name, [] if name == 'annotations' else None), list)
               or not all(isinstance(entry, dict) for entry in content.get(name, []))]
    if missing:
        raise UserError(f'{path} ({key}.ann_file) is not a COCO annotation file: it has no list of objects '
                        f'{", ".join(missing)}')
    beyond = check_reach(annotations)
    if beyond:
        raise UserError(f'{path} ({key}.ann_file): {beyond}; {FIX}')
    keep_outline(path, annotations)
    return annotations


def _check_categories(categories, classes, path, key, model):
    """Make sure that an annotation file has each class of the data set once."""
    names = [category.get('name') for category in categories]
    chosen = [category for category in categories if category.get('name') in (classes or ())]
    for what in ('id', 'name'):
        values = [category.get(what) for category in chosen]
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            # mmdet would give the second one a label beyond the classes.
            raise UserError(f'{path} ({key}.ann_file) has two categories of the {what} {twice[0]!r}; {FIX}')
    unknown = [name for name in classes or () if name not in names]
    if unknown:
        heads = ', '.join(sorted({str(number) for _, number in head_classes(model)})) or 'other'
        raise UserError(f'{path} ({key}.ann_file) has {len(names)} categories ({shorten(names)}), but {key} has '
                        f'{len(classes)} classes, of which it lacks {len(unknown)} ({shorten(unknown)}), and the '
                        f'heads predict {heads} classes: set {settings_for(model, names, key)}')


def _check_segmentation(dataset, kind, key, model):
    classes, own = dataset_classes(dataset, kind), getattr(kind, 'METAINFO', {}).get('classes')
    foreign = [name for name in classes or () if own and name not in own]
    if foreign:
        raise UserError(f'{key}.metainfo.classes has {shorten(foreign)}, which {kind.__name__} does not know: give '
                        f'{key}.type=BaseSegDataset for classes of your own')
    if classes:
        check_heads(model, classes, key)
    prefixes = dataset.get('data_prefix') or {}
    if 'img_path' in prefixes:
        _require_folder(dataset, kind, key, 'img_path')
    if prefixes.get('seg_map_path'):
        folder = _require_folder(dataset, kind, key, 'seg_map_path')
        built = try_build_unread(dataset, key) if _is_local(dataset, folder) else None
        # Other readers than mmseg's own take files of other kinds.
        if built is not None and (own or classes) and not reads_otherwise(built.pipeline):
            census = check_masks(built, key)
            if census and census.ignored and key.startswith('train'):
                check_ignored_pixels(model, key)
            return census
    return None
