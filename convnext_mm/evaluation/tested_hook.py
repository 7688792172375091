"""Let the metrics of a run evaluate the images that it tests, and check the masks that it compares with."""
import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop

from convnext_mm.datasets.agreement.parts import evaluators
from convnext_mm.drawing.datasets import name_pictures
from convnext_mm.evaluation.mask_values import check_mask_values
from convnext_mm.evaluation.tested import Tested, restrict_metrics
from convnext_mm.utils.text import shorten


class TestedImagesHook(Hook):
    """Restrict the metrics of a validation and of a test to the images of their data sets (see ``tested``).

    Attributes:
        tested (list[Tested]): After the loops are built, the images of the last one.
    """

    # Not a test of pytest's.
    __test__ = False

    def __init__(self):
        self.tested: list[Tested] = []
        self._batch: Sequence = ()

    def before_run(self, runner):
        """Restrict the metrics before anything is trained or tested, and log which images that are."""
        for split, name in (('val', 'validation'), ('test', 'test')):
            loop = getattr(runner, f'_{split}_loop', None)
            if isinstance(loop, BaseLoop) and hasattr(loop, 'evaluator'):
                self.tested = _restrict(runner.cfg, split, loop)
                print_log(f'Images of the {name}: {", ".join(map(str, self.tested))}', logger='current')

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        """Keep the samples, for :meth:`naming_images`."""
        self._batch = _samples(data_batch)

    before_test_iter = before_val_iter

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Check the masks of the samples."""
        self._batch = ()
        _check_samples(runner.val_loop, outputs)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Check the masks of the samples."""
        self._batch = ()
        _check_samples(runner.test_loop, outputs)

    @contextlib.contextmanager
    def naming_images(self) -> Iterator[None]:
        """Log on which images the model, or a metric, failed. The error is raised as it is."""
        try:
            yield
        except Exception as error:
            paths = [str(path) for path in (getattr(sample, 'img_path', None) for sample in self._batch) if path]
            if paths:
                print_log(f'{type(error).__name__} on {shorten(paths)}', logger='current', level=logging.ERROR)
            raise


def _samples(batch):
    """Return the samples of a batch; with test-time augmentation, those of the first view."""
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    return samples[0] if samples and isinstance(samples[0], Sequence) else samples or ()


def _restrict(cfg, split, loop):
    metrics = loop.evaluator.metrics
    files = [settings.get('ann_file') for _, settings in evaluators(cfg, split)] or [None] * len(metrics)
    for metric in metrics:
        if getattr(metric, 'out', None) and hasattr(metric, 'names'):
            metric.names = name_pictures(loop.dataloader.dataset)
    by_part = type(loop.evaluator).__name__ == 'MultiDatasetsEvaluator'
    return restrict_metrics(metrics, files, loop.dataloader.dataset, f'{split}_dataloader.dataset', by_part)


def _check_samples(loop: Any, samples: Sequence | None) -> None:
    for metric in loop.evaluator.metrics:
        ignored = getattr(metric, 'ignore_index', None)
        for sample in samples or () if ignored is not None else ():
            truth = getattr(sample, 'gt_sem_seg', None)
            if truth is not None:
                check_mask_values(truth.data, metric.dataset_meta['classes'], ignored,
                                  sample.get('seg_map_path') or sample.get('img_path'))
