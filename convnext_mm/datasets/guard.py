"""Guard samples whose files are broken: training passes over, names and counts them; validation and testing stop.

A sample is bad if making it failed, and either the operating system could not read a file, or the checks of
`tools/check_data.py` find its image, mask or annotation wrong. Any other failure is a mistake in a program and is
raised as it is. The next sample of the data set that is not bad takes the place of a bad one: the same in every run,
so that a resumed run sees what the first one saw.

This is the one place that replaces a method of mm's data sets: ``prepare_data``, on the data sets inside of all
wrappers. mmengine offers nothing else: it takes a transform that returns None for a bad sample, but then draws another
one at random, and no hook sees the error. A data set wrapped around the others would hide their attributes, which
samplers, wrappers and metrics read.
"""
import logging
import math
from numbers import Real
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from convnext_mm.datasets.annotations import check_instance
from convnext_mm.datasets.census import tell
from convnext_mm.datasets.census_built import count_samples
from convnext_mm.datasets.flaws import Flaw
from convnext_mm.datasets.images import check_image_file, check_mask_file, loader_of
from convnext_mm.datasets.sources import describe_damage, is_coco, is_segmentation, mask_rule, read_file
from convnext_mm.utils.built_datasets import built_leaves
from convnext_mm.utils.errors import ArgumentValueError, UserError
from convnext_mm.utils.installation import command
from convnext_mm.utils.text import shorten

#: Flaws of an instance on which mm fails; it takes instances with others, or leaves them out.
BREAKING = ('damaged entry', 'damaged mask', 'empty mask')
#: How many bad samples are named when training stops.
NAMED = 10
ADVICE = f'{command("check_data")} names all that is wrong, and with --fix writes an annotation file without it'


class BadDataError(UserError):
    """Files of the data that cannot be used."""

    def __init__(self, message):
        # From a worker process, torch passes on the text of the whole traceback, which ends with the message.
        super().__init__(message.rpartition(f'{type(self).__qualname__}: ')[2])


def guard_data(runner: Any, max_bad_samples: float) -> None:
    """Guard the data sets that a runner is going to build; data loaders that are built already stay as they are.

    Args:
        runner (mmengine.runner.Runner): Not yet training or testing. Its config is left as it is, so that a copy of it
            means the same everywhere.
        max_bad_samples (float): Share of a training data set's samples, 0 to 1, rounded up to whole samples; with more
            of them, training stops. Each process of a distributed run counts for itself, from its start.

    Raises:
        ArgumentValueError: ``max_bad_samples`` is not a number from 0 to 1.
    """
    if isinstance(max_bad_samples, bool) or not isinstance(max_bad_samples, Real) or not 0 <= max_bad_samples <= 1:
        raise ArgumentValueError('max_bad_samples must be a number from 0 to 1, a share of the training samples, got '
                                 f'{max_bad_samples!r}')
    for split in ('train', 'val', 'test'):
        loader = getattr(runner, f'_{split}_dataloader', None)
        if isinstance(loader, dict) and isinstance(loader.get('dataset'), dict):
            dataset = dict(type=build_guarded, dataset=loader['dataset'],
                           max_bad_samples=max_bad_samples if split == 'train' else None)
            setattr(runner, f'_{split}_dataloader', {**loader, 'dataset': dataset})


def build_guarded(dataset: dict, max_bad_samples: float | None = None) -> Any:
    """Build the data set of a config, with every sample guarded.

    Args:
        dataset (dict): Its config.
        max_bad_samples (float, optional): See ``guard_data``. Defaults to None: a bad sample ends the run.

    Raises:
        BadDataError: It cannot be built because its files are missing or damaged.
    """
    try:
        built = DATASETS.build(dataset)
        if hasattr(built, 'full_init'):
            built.full_init()
    except UserError:
        raise
    except Exception as error:
        damage = describe_damage(dataset)
        # numpy says so when mmengine packs an empty list of images.
        if damage is None and 'at least one array' in str(error):
            damage = '0 images of a data set are left: change its filter_cfg, indices or ann_file'
        if damage is None:
            raise
        raise BadDataError(f'{damage}; {command("check_data")} tells all that is wrong') from error
    leaves = [leaf for leaf in built_leaves(built) if hasattr(leaf, 'prepare_data') and hasattr(leaf, 'get_data_info')]
    if max_bad_samples is not None:
        _check_instances(leaves)
    for leaf in leaves:
        leaf.prepare_data = Guard(leaf, max_bad_samples)
    return built


def _check_instances(leaves):
    """Refuse to train with a data set, of any format, without instances; warn of classes that are never learned.

    What is read as mmdet's ``CocoDataset`` reads it was counted before.
    """
    censuses = []
    for i, leaf in enumerate(leaves):
        loader, key = loader_of(leaf.pipeline), 'train_dataloader.dataset' + f'.datasets.{i}' * (len(leaves) > 1)
        if is_coco(leaf) or is_segmentation(leaf) or not loader.annotated:
            continue
        census = count_samples(map(leaf.get_data_info, range(len(leaf))), leaf.metainfo, loader, len(leaf))
        if census and not sum(census.counts) and len(leaves) == 1:
            raise BadDataError(f'0 instances are left in {len(leaf)} training images of {type(leaf).__name__}: all are '
                               'left out or marked to be ignored: correct the annotations, metainfo.classes or '
                               'filter_cfg')
        censuses += [(key, census)] if census else []
    # A class may be in a part that is not counted here.
    told = tell(censuses) if len(censuses) == len(leaves) else []
    if told:
        print_log(f'What is used of the data: {"; ".join(told)}', logger='current', level=logging.WARNING)


class Guard:
    """Takes the place of a data set's ``prepare_data``.

    Args:
        dataset (BaseDataset): mmengine's.
        max_bad_samples (float | None): See ``build_guarded``.
    """

    def __init__(self, dataset, max_bad_samples):
        self.dataset, self.share = dataset, max_bad_samples
        self.limit = math.ceil((max_bad_samples or 0) * len(dataset))
        # Worker processes share these marks; each sets its own, so none has to wait for another.
        self.bad = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()

    def __call__(self, index):
        for place in range(index, index + len(self.dataset)):
            place %= len(self.dataset)
            try:
                return type(self.dataset).prepare_data(self.dataset, place)
            except UserError:
                raise
            except Exception as error:
                problem = self._problem(place, error)
                if problem is None:
                    raise
                self._count(place, problem)
        raise BadDataError(f'none of the {len(self.dataset)} samples of a data set can be used; '
                           f'{command("check_data")} tells what is wrong with each')

    def _problem(self, place, error):
        """Return what is wrong with the sample's data, naming the file; None if it is not the reason of ``error``."""
        sample = self.dataset.get_data_info(place)
        for file, flaw in self._flaws(sample):
            return f'{file}: {flaw.kind}: {flaw.detail}'
        return f'{sample.get("img_path")}: {type(error).__name__}: {error}' if isinstance(error, OSError) else None

    def _flaws(self, sample):
        """Yield (file, flaw) of the sample's image, its mask and its instances."""
        loader, files = loader_of(self.dataset.pipeline), getattr(self.dataset, 'backend_args', None)
        image, mask = sample.get('img_path'), sample.get('seg_map_path')
        size = (sample['width'], sample['height']) if {'width', 'height'} <= sample.keys() else None
        if isinstance(image, str):
            content, flaw = read_file(image, 'image', files)
            if flaw is None:
                seen, flaw = check_image_file(content, loader, size)
                size = size or seen
            if flaw:
                yield image, flaw
        if mask and hasattr(self.dataset, 'label_map'):
            content, flaw = read_file(mask, 'mask', files)
            flaw = flaw or check_mask_file(content, loader, size, mask_rule(self.dataset))[1]
            if flaw:
                yield mask, flaw
        for number, instance in enumerate(sample.get('instances') or () if size else ()):
            x0, y0, x1, y1 = instance['bbox']
            for flaw in check_instance([x0, y0, x1 - x0, y1 - y0], instance.get('mask'), *size, loader.with_mask):
                if flaw.kind in BREAKING:
                    yield image, Flaw(flaw.kind, f'instance {number}: {flaw.detail}')

    def _count(self, place, problem):
        """Mark a bad sample, name it if it is new, and stop where there are too many."""
        problem = ' '.join(problem.split())
        if self.share is None:
            raise BadDataError(f'{problem}; validation and testing need every file: {ADVICE}')
        if self.bad[place]:
            return
        self.bad[place] = True
        count = int(self.bad.sum())
        if count > self.limit:
            bad = self.bad.nonzero().flatten().tolist()
            names = shorten([self.dataset.get_data_info(i)['img_path'] for i in bad], NAMED)
            raise BadDataError(f'{count} of {len(self.dataset)} training samples cannot be used, where max_bad_samples='
                               f'{self.share} allows {self.limit}: {names}; the last: {problem}; {ADVICE}')
        # The other processes of a distributed run show errors alone.
        print_log(f'Sample passed over ({count} of at most {self.limit}): {problem}', logger='current',
                  level=logging.ERROR if get_rank() else logging.WARNING)
