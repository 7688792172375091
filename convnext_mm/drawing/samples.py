"""The arrays in mm's data samples, which are known by their fields: no mm class is imported."""
import numpy as np

from convnext_mm.drawing.classification import Classes, likeliest
from convnext_mm.drawing.instances import Instances
from convnext_mm.utils.errors import ArgumentValueError


def read_sample(sample, score_thr: float) -> tuple[Classes | Instances | np.ndarray | None,
                                                   Classes | Instances | np.ndarray]:
    """Return the ground truth and the prediction of a data sample that a model has filled in.

    Args:
        sample (DetDataSample | SegDataSample | DataSample): mm's.
        score_thr (float): Detections below it are left out.

    Returns:
        tuple: For a detector two ``Instances``, for a segmentor two arrays of class indices, (H, W), for a classifier
        two ``Classes``. The ground truth is None where the sample has none.

    Raises:
        ArgumentValueError: The sample has none of ``pred_instances``, ``pred_sem_seg`` and ``pred_score``.
    """
    if 'pred_instances' in sample:
        found, truth = sample.pred_instances, sample.get('gt_instances')
        has_truth = truth is not None and 'bboxes' in truth
        return _instances(truth) if has_truth else None, _instances(found[found.scores >= score_thr])
    if 'pred_sem_seg' in sample:
        return _index_map(sample.get('gt_sem_seg')), _index_map(sample.pred_sem_seg)
    if 'pred_score' in sample:
        label = sample.get('gt_label')
        return (None if label is None else Classes(np.asarray(label.cpu()).reshape(-1)),
                likeliest(np.asarray(sample.pred_score.cpu())))
    raise ArgumentValueError('pictures show instances, semantic segmentations and classes, and the sample has none of '
                             f'pred_instances, pred_sem_seg and pred_score, only {", ".join(sorted(sample.keys()))}')


def _instances(data):
    data = data.to('cpu')
    scores, masks = data.get('scores'), data.get('masks')
    # Of the ground truth, boxes and masks are mmdet's own structures.
    boxes = getattr(data.bboxes, 'tensor', data.bboxes)
    masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks
    return Instances(np.asarray(boxes), np.asarray(data.labels), None if scores is None else np.asarray(scores),
                     None if masks is None else np.asarray(masks, bool))


def _index_map(data):
    return None if data is None else np.asarray(data.data.squeeze(0).to('cpu'))
