"""COCO's figures of boxes and masks, by pycocotools or by faster-coco-eval."""
import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def find_backend() -> str:
    """Return the name of the package that evaluates: faster-coco-eval if it is installed, else pycocotools."""
    return 'faster-coco-eval' if importlib.util.find_spec('faster_coco_eval') else 'pycocotools'


def evaluate_coco(truth: COCO, annotations: list[dict], kind: str, category_ids: Sequence[int],
                  backend: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return COCO's figures of results.

    Args:
        truth (pycocotools.coco.COCO): The annotations of the data set; none has the id 0.
        annotations (list[dict]): See :func:`convnext_mm.evaluation.predictions.to_annotations`.
        kind (str): ``bbox`` or ``segm``.
        category_ids (Sequence[int]): Ids of the K classes that are evaluated.
        backend (str, optional): ``pycocotools`` or ``faster-coco-eval``, whose figures are equal. Defaults to
            :func:`find_backend`'s.

    Returns:
        tuple[ndarray, ndarray]: The twelve figures in pycocotools' order, and AP of each class, (K,); from 0 to 1, -1
        where there is nothing to find.
    """
    results = [_result(annotation, kind) for annotation in annotations]
    # Both print tables of their own and how long each step took.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _prepare(truth, results, kind, backend or find_backend())
        evaluation.params.catIds = list(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # Axes: IoU thresholds, recalls, classes, sizes, most detections. Take all sizes and 100 detections.
    precision = evaluation.eval['precision'][:, :, :, 0, -1]
    columns = [column[column > -1] for column in precision.reshape(-1, precision.shape[2]).T]
    # The ids are sorted by the evaluation.
    by_id = {i: column.mean() if column.size else -1. for i, column in zip(evaluation.params.catIds, columns)}
    return np.asarray(evaluation.stats[:12]), np.array([by_id[i] for i in category_ids])


def _result(annotation, kind):
    if kind == 'segm':
        # With a box, pycocotools takes the box's area for the mask's, which moves masks between the sizes.
        annotation = {key: value for key, value in annotation.items() if key != 'bbox'}
        annotation['score'] = annotation.pop('mask_score', annotation['score'])
    return dict(annotation)


def _prepare(truth, results, kind, backend) -> Any:
    if backend == 'pycocotools':
        return COCOeval(truth, _load(truth, results), kind)
    import faster_coco_eval
    fast = faster_coco_eval.COCO()
    fast.dataset = truth.dataset
    fast.createIndex()
    return faster_coco_eval.COCOeval_faster(fast, _load(fast, results), kind)


def _load(truth, results):
    """Return results as the package has them, also where there are none."""
    if results:
        return truth.loadRes(results)
    # pycocotools looks at the first result to learn their kind, and fails without one.
    nothing = type(truth)()
    nothing.dataset = dict(truth.dataset, annotations=[])
    nothing.createIndex()
    return nothing
