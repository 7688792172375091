"""Figures of predictions, of a model's as it makes them or of stored ones."""
import os

from mmengine.registry import DATASETS, METRICS

from convnext_mm.evaluation.predictions import read_predictions
from convnext_mm.evaluation.scores import make_report
from convnext_mm.utils.configs import is_segmentor, test_dataset, type_name
from convnext_mm.utils.errors import UserError

#: Evaluators of mm's with these settings alone become this package's: type -> settings.
OWN_METRICS = {
    'CocoMetric': {'ann_file', 'metric', 'classwise', 'backend_args', 'collect_device', 'prefix'},
    'IoUMetric': {'iou_metrics', 'ignore_index', 'nan_to_num', 'beta', 'collect_device', 'prefix'}}


def use_own_metrics(cfg):
    """Put this package's metrics in the place of mm's ``CocoMetric`` and ``IoUMetric``; return their settings.

    Others stay, and so do these with settings that change what their figures mean.
    """
    evaluators = [cfg.test_evaluator] if isinstance(cfg.test_evaluator, dict) else list(cfg.test_evaluator)
    own = []
    for evaluator in evaluators:
        kind = type_name(evaluator)
        if kind not in OWN_METRICS or not evaluator.keys() <= {'type', *OWN_METRICS[kind]}:
            continue
        kinds = evaluator.get('metric', 'bbox')
        kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        if kind == 'CocoMetric' and not (evaluator.get('ann_file') and kinds <= {'bbox', 'segm'}):
            continue
        evaluator.type = f'convnext_mm.{kind}'
        if kind == 'IoUMetric':
            dataset = test_dataset(cfg)
            evaluator.image_folder = os.path.join(dataset.get('data_root') or '',
                                                  (dataset.get('data_prefix') or {}).get('img_path', ''))
        own.append(evaluator)
    cfg.test_evaluator = evaluators
    return own


def shows_classes(cfg):
    """Whether the table of classes belongs on the terminal: as in mm, a segmentor's always, others' if classwise."""
    return is_segmentor(cfg.model) or any(evaluator.get('classwise') for evaluator in cfg.test_evaluator)


def evaluate_stored(cfg, config, path, reference):
    """The report of stored predictions.

    Args:
        cfg (Config): Says the data set and the evaluators.
        config (str): Its path as given.
        path (str): What ``tools/test.py --out`` stored.
        reference (Reference): To compare with.

    Raises:
        UserError: They cannot be read, or are not of the config's data set.
    """
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
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
        figures.update(metric.evaluate_stored(dataset, predictions, path))
    run = {'protocol': 'single-scale', 'weights': None, **predictions.info, 'config': str(config)}
    return make_report(run, len(dataset), figures, metrics, reference)
