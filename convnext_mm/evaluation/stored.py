"""Evaluate stored predictions, without the model."""
from typing import Any

from mmengine.registry import DATASETS, METRICS

from convnext_mm.evaluation.evaluators import check_whole, use_own_metrics
from convnext_mm.evaluation.predictions import read_predictions
from convnext_mm.evaluation.scores import Reference, make_scores
from convnext_mm.evaluation.tested import restrict_metrics
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError


def evaluate_stored(cfg: Any, config: str, path: str, reference: Reference) -> dict:
    """Return the scores of stored predictions, as :func:`make_scores` does.

    Args:
        cfg (Config): It has the data set and the evaluators.
        config (str): Its path as given.
        path (str): What ``tools/test.py --out`` stored.
        reference (Reference): To compare with.

    Raises:
        UserError: They cannot be read, or are not of the config's data set.
    """
    check_whole(cfg, f'predictions {str(path)!r}')
    own = use_own_metrics(cfg)
    if not own:
        raise UserError('stored predictions are evaluated by a CocoMetric (with ann_file, for bbox or segm) or an '
                        f'IoUMetric as test_evaluator, {config} has none')
    predictions = read_predictions(path)
    if (predictions.annotations is None) != (type_name(own[0]) == 'IoUMetric'):
        raise UserError(f"predictions {str(path)!r} are of another task than {config}: a detector's are a .json file, "
                        "a segmentor's a folder of index PNGs")
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    metrics, figures = [METRICS.build(evaluator) for evaluator in own], {}
    tested = restrict_metrics(metrics, [evaluator.get('ann_file') for evaluator in own], dataset,
                              'test_dataloader.dataset')
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
        figures.update(metric.evaluate_stored(dataset, predictions, path))
    run = {'protocol': 'single-scale', 'weights': None, **predictions.info, 'config': str(config)}
    return make_scores(run, tested, figures, metrics, reference)
