"""Measure IoU and accuracy of a segmentation, unrounded and by class, and store the predictions."""
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import TRANSFORMS
from mmseg.evaluation import IoUMetric as BaseIoUMetric

from convnext_mm.drawing.datasets import name_pictures
from convnext_mm.evaluation.mask_values import check_mask_values
from convnext_mm.evaluation.prediction_checks import compare_categories, compare_images
from convnext_mm.evaluation.predictions import (
    Predictions,
    finish_folder,
    index_categories,
    partial_folder,
    read_index_map,
    write_index_map,
)
from convnext_mm.registry import METRICS
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import png_name
from convnext_mm.utils.progress import Bar


@METRICS.register_module()
class IoUMetric(BaseIoUMetric):
    """Extends mmseg's metric: not rounded, areas summed in double precision, so that counts of pixels stay exact.

    Args:
        out (str, optional): Folder for the predictions, see ``evaluation.predictions``. Defaults to none.
        info (dict, optional): What was run, stored with them.
        kwargs: mmseg's.

    Attributes:
        names (dict[str, str]): Names of the stored PNGs by the paths of the images, below the images' folder and no two
            alike; ``TestedImagesHook`` and ``evaluate_stored`` set it. Without it, names are those of the images.
        per_class (list[dict]): After ``evaluate``, ``class`` and its figures (``IoU``, ``Acc``) in percent.
    """

    def __init__(self, out=None, info=None, **kwargs):
        super().__init__(**kwargs)
        self.out, self.info, self.names, self.per_class = out, info or {}, {}, []

    def _name(self, path):
        return self.names.get(path) or png_name(path, '')

    def process(self, data_batch, data_samples):
        start = len(self.results)
        super().process(data_batch, data_samples)
        # Keep each image's path with its areas: completing the folder of predictions needs it.
        self.results[start:] = [(*areas, sample['img_path'])
                                for areas, sample in zip(self.results[start:], data_samples)]
        if self.out:
            for sample in data_samples:
                name = self._name(sample['img_path'])
                write_index_map(partial_folder(self.out) / name, sample['pred_sem_seg']['data'].squeeze().cpu().numpy(),
                                self.dataset_meta['reduce_zero_label'])

    def compute_metrics(self, results):
        *areas, paths = zip(*results)
        classes = self.dataset_meta['classes']
        if self.out:
            finish_folder(self.out, self.info, {self._name(path): Path(path).name for path in paths},
                          index_categories(classes, self.dataset_meta['reduce_zero_label']))
        figures = self.total_area_to_metrics(*(sum(area.double() for area in column) for column in areas),
                                             self.metrics, self.nan_to_num, self.beta)
        overall = {'aAcc': 100 * figures.pop('aAcc').item()}
        self.per_class = [{'class': name, **{key: 100 * values[i].item() for key, values in figures.items()}}
                          for i, name in enumerate(classes)]
        return {**overall, **{f'm{key}': 100 * np.nanmean(values).item() for key, values in figures.items()}}

    def evaluate_stored(self, dataset: Any, predictions: Predictions, path: str) -> dict:
        """Return the figures of stored predictions.

        Args:
            dataset (mmseg.datasets.BaseSegDataset): The config's, with ``LoadAnnotations`` as its pipeline.
            predictions (Predictions): As read from ``path``.
            path (str): The folder.

        Raises:
            UserError: They are of other images or classes, or of another size.
        """
        self.names = name_pictures(dataset)
        images = {self.names[info['img_path']]: info for info in map(dataset.get_data_info, range(len(dataset)))}
        compare_images(path, images, (file.relative_to(path).as_posix() for file in Path(path).rglob('*.png')))
        reduce_zero_label = self.dataset_meta['reduce_zero_label']
        if predictions.categories is not None:
            compare_categories(
                path, *({category['id']: category['name'] for category in categories} for categories in (
                    index_categories(self.dataset_meta['classes'], reduce_zero_label), predictions.categories)))
        load = TRANSFORMS.build(dict(type='mmseg.LoadAnnotations'))
        bar = Bar(len(images), 'images')
        for name, info in images.items():
            truth = load(info)['gt_seg_map']
            found = read_index_map(Path(path, name), reduce_zero_label)
            if truth.shape != found.shape:
                raise UserError(f'{Path(path, name)} is of {found.shape[1]} x {found.shape[0]} pixels, the annotation '
                                f'of {truth.shape[1]} x {truth.shape[0]}')
            classes = self.dataset_meta['classes']
            check_mask_values(torch.from_numpy(truth), classes, self.ignore_index, info['seg_map_path'])
            check_mask_values(torch.from_numpy(found), classes, 255 if reduce_zero_label else None, Path(path, name))
            self.process(None, [dict(img_path=info['img_path'], **{
                key: dict(data=torch.from_numpy(values.astype(np.int64)))
                for key, values in (('gt_sem_seg', truth), ('pred_sem_seg', found))})])
            bar.add()
        return self.evaluate(len(images))
