"""Choose the evaluators of a test, in its config, and where they store the predictions."""
from typing import Any

from convnext_mm.datasets.agreement.parts import evaluators
from convnext_mm.evaluation.prediction_checks import check_file, check_folder
from convnext_mm.evaluation.predictions import PICKLES
from convnext_mm.utils.configs import is_segmentor, type_name
from convnext_mm.utils.errors import UserError

#: Evaluators of mm's that have no other settings become this package's: type -> settings.
OWN_METRICS = {
    'CocoMetric': {'ann_file', 'metric', 'classwise', 'backend_args', 'collect_device', 'prefix'},
    'IoUMetric': {'iou_metrics', 'ignore_index', 'nan_to_num', 'beta', 'collect_device', 'prefix'}}
#: mm's base configs spell out the default of the first, and mmengine adds the second to what a named base config has.
DROPPED = {'format_only', '_scope_'}


def use_own_metrics(cfg: Any) -> list[dict]:
    """Replace mm's ``CocoMetric`` and ``IoUMetric`` in a config by this package's, and return their settings.

    Others stay, and so do those with settings that change what their figures mean.
    """
    own = []
    for _, evaluator in evaluators(cfg, 'test'):
        kind = type_name(evaluator)
        if not _can_be_replaced(evaluator, kind):
            continue
        for key in DROPPED & evaluator.keys():
            del evaluator[key]
        evaluator.type = f'convnext_mm.{kind}'
        own.append(evaluator)
    if not _by_part(cfg) and isinstance(cfg.test_evaluator, dict):
        cfg.test_evaluator = [cfg.test_evaluator]
    return own


def _by_part(cfg):
    """Return whether each part of a data set has a metric of its own."""
    return type_name(cfg.test_evaluator) == 'MultiDatasetsEvaluator'


def _can_be_replaced(evaluator, kind):
    if kind not in OWN_METRICS or not evaluator.keys() <= {'type', *OWN_METRICS[kind], *DROPPED} \
            or evaluator.get('format_only'):
        return False
    kinds = evaluator.get('metric', 'bbox')
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    return kind != 'CocoMetric' or bool(evaluator.get('ann_file')) and kinds <= {'bbox', 'segm'}


def shows_classes(cfg: Any) -> bool:
    """Return whether the terminal shows the table of classes: as in mm, for segmentors and classwise evaluators."""
    return is_segmentor(cfg.model) or any(metric.get('classwise') for _, metric in evaluators(cfg, 'test'))


def check_whole(cfg: Any, argument: str) -> None:
    """Make sure that the test has one data set, of which predictions can be stored.

    Raises:
        UserError: Its parts are evaluated one by one; ``argument`` is what asks for predictions.
    """
    if _by_part(cfg):
        raise UserError(f'{argument}: predictions are those of one data set, but test_evaluator is a '
                        'MultiDatasetsEvaluator of several: test each of them by a config of its own')


def check_out(cfg: Any, own: list[dict], out: str) -> None:
    """Make sure, before anything is built, that ``--out`` can be written.

    Args:
        cfg (Config): The config of the test.
        own (list): What :func:`use_own_metrics` returned.
        out (str): A file for a detector, a folder for a segmentor (see ``predictions``).

    Raises:
        UserError: It cannot, or the config has no evaluator that stores predictions.
    """
    check_whole(cfg, f'--out {out!r}')
    (check_folder if is_segmentor(cfg.model) else check_file)('--out', out)
    if not own and not out.endswith(PICKLES):
        raise UserError(f'--out {out!r} needs a CocoMetric (with ann_file, for bbox or segm) or an IoUMetric as '
                        'test_evaluator, the config has none')


def set_out(cfg: Any, own: list[dict], out: str, info: dict) -> None:
    """Make the test store its predictions in ``out``, with ``info``; arguments otherwise as in :func:`check_out`."""
    if out.endswith(PICKLES):
        cfg.test_evaluator = [*cfg.test_evaluator, dict(type='mmdet.DumpDetResults', out_file_path=out)]
    else:
        own[0].update(out=out, info=info)
