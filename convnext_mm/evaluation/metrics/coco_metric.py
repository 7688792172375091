"""Measure COCO's twelve figures for boxes and masks, unrounded and by class, and store the predictions."""
from typing import Any

from mmdet.evaluation import CocoMetric as BaseCocoMetric
from mmengine.logging import print_log

from convnext_mm.evaluation.coco import evaluate_coco, find_backend
from convnext_mm.evaluation.prediction_checks import compare_categories, compare_images
from convnext_mm.evaluation.predictions import Predictions, to_annotations, write_detections
from convnext_mm.evaluation.scores import COCO_FIGURES
from convnext_mm.registry import METRICS
from convnext_mm.utils.errors import UserError


@METRICS.register_module()
class CocoMetric(BaseCocoMetric):
    """Extends mmdet's metric: all of COCO's twelve figures, not rounded.

    ``evaluate`` returns mmdet's keys, ``coco/bbox_mAP`` and so on, and ``coco/bbox_AR@1``, ``AR@10``, ``AR@100``,
    ``AR_s@100``, ``AR_m@100`` and ``AR_l@100``; figures are from 0 to 1, -1 where there is nothing to find.
    Deviation from mmdet: at most 100 detections an image count, as COCO has it.

    Args:
        out (str, optional): JSON file for the predictions, see ``evaluation.predictions``. Defaults to none.
        info (dict, optional): What was run, stored with them.
        kwargs: mmdet's.

    Attributes:
        per_class (list[dict]): After ``evaluate``, ``class`` and AP by kind, in percent; None for nothing to find.
    """

    def __init__(self, out=None, info=None, **kwargs):
        super().__init__(**kwargs)
        self.out, self.info, self.per_class = out, info or {}, []

    def category_ids(self) -> list[int]:
        """Return the ids of the classes in the order of the labels, which is that of the annotation file."""
        return self._coco_api.get_cat_ids(cat_names=self.dataset_meta['classes'])

    def process(self, data_batch, data_samples):
        super().process(data_batch, data_samples)
        category_ids = self.category_ids()
        # mmdet's pair of (truth, prediction) of each image becomes (image id, annotations).
        start = len(self.results) - len(data_samples)
        self.results[start:] = [
            (found['img_id'], to_annotations(found['img_id'], found['bboxes'], found['scores'], found['labels'],
                                             category_ids, found.get('masks'), found.get('mask_scores')))
            for _, found in self.results[start:]]

    def compute_metrics(self, results):
        annotations = [annotation for _, found in results for annotation in found]
        category_ids = self.category_ids()
        names = {i: self._coco_api.cats[i]['name'] for i in category_ids}
        if self.out:
            images = [self._coco_api.imgs[i] for i, _ in results]
            write_detections(
                self.out, self.info,
                [{key: image[key] for key in ('id', 'file_name', 'width', 'height')} for image in images],
                [dict(id=i, name=name) for i, name in names.items()], annotations)
        figures, self.per_class = {}, [{'class': name} for name in names.values()]
        for kind in self.metrics:
            print_log(f'Evaluating {kind} of {len(annotations)} detections in {len(results)} images '
                      f'by {find_backend()}', logger='current')
            values, by_class = evaluate_coco(self._coco_api, annotations, kind, category_ids)
            figures.update((f'{kind}_{figure.key}', value) for figure, value in zip(COCO_FIGURES, values.tolist()))
            for row, value in zip(self.per_class, by_class.tolist()):
                row[f'{"mask" if kind == "segm" else "box"} AP'] = None if value < 0 else 100 * value
        return figures

    def evaluate_stored(self, dataset: Any, predictions: Predictions, path: str) -> dict:
        """Return the figures of stored predictions.

        Args:
            dataset (mmdet.datasets.CocoDataset): The config's.
            predictions (Predictions): As read from ``path``.
            path (str): Names the predictions in messages.

        Raises:
            UserError: They are of other images or classes, or lack masks.
        """
        ids, by_image = self.category_ids(), self._group_by_image(dataset, predictions, path)
        if predictions.categories is not None:
            compare_categories(path, {i: self._coco_api.cats[i]['name'] for i in ids},
                               {category['id']: category['name'] for category in predictions.categories})
        if 'segm' in self.metrics and not all(a.get('segmentation') for a in predictions.annotations or ()):
            raise UserError(f'predictions {path!r} lack masks (segmentation), which the config evaluates: set '
                            'test_evaluator.metric=bbox by --cfg-options for boxes alone')
        if predictions.by_label:
            by_image = {i: [dict(a, category_id=ids[a['category_id']]) for a in found] for i, found in by_image.items()}
        self.results = list(by_image.items())
        return self.evaluate(len(self.results))

    def _group_by_image(self, dataset, predictions, path):
        """Return ``{image id: annotations}``, after making sure that the images are those of the data set."""
        names = {i: image['file_name'] for i, image in self._coco_api.imgs.items()}
        expected = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
        by_image = {image['id']: [] for image in predictions.images or ()} or {i: [] for i in expected}
        for annotation in predictions.annotations or ():
            by_image.setdefault(annotation['image_id'], []).append(annotation)
        given = {image['id']: image['file_name'] for image in predictions.images or () if 'file_name' in image}
        compare_images(path, (names[i] for i in expected),
                       (given.get(i, names.get(i, f'image_id {i}')) for i in by_image))
        return by_image
