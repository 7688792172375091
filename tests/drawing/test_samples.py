"""Plain arrays come out of mm's data samples."""
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData

from convnext_mm.drawing import Instances, read_sample
from convnext_mm.utils.errors import UserError


def detected(**fields):
    return InstanceData(bboxes=torch.tensor([[0., 0, 4, 4], [1, 1, 3, 3]]), labels=torch.tensor([0, 2]),
                        scores=torch.tensor([.9, .3]), **fields)


def test_detections_below_the_threshold_are_left_out():
    sample = BaseDataElement(pred_instances=detected(masks=torch.ones(2, 5, 6, dtype=torch.bool)))
    for threshold, count in ((0, 2), (.3, 2), (.31, 1), (1, 0)):
        truth, found = read_sample(sample, threshold)
        assert truth is None and isinstance(found, Instances)
        assert (found.boxes.shape, found.masks.shape) == ((count, 4), (count, 5, 6))
        assert found.labels.tolist() == [0, 2][:count] and found.masks.dtype == bool
        assert found.scores.tolist() == pytest.approx([.9, .3][:count])
    assert read_sample(BaseDataElement(pred_instances=detected()), 0)[1].masks is None
    assert read_sample(BaseDataElement(pred_instances=detected(), gt_instances=InstanceData()), 0)[0] is None


def test_ground_truth_in_structures_of_mmdets():
    pytest.importorskip('mmdet')
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks, PolygonMasks
    square = np.zeros((1, 5, 6), np.uint8)
    square[0, :4, :4] = 1
    for masks in (BitmapMasks(square, 5, 6), PolygonMasks([[np.array([0., 0, 4, 0, 4, 4, 0, 4])]], 5, 6)):
        truth = InstanceData(bboxes=HorizontalBoxes(torch.tensor([[0., 0, 4, 4]])), labels=torch.tensor([1]),
                             masks=masks)
        read, _ = read_sample(BaseDataElement(gt_instances=truth, pred_instances=detected()), 0)
        assert read.boxes.tolist() == [[0, 0, 4, 4]] and read.labels.tolist() == [1] and read.scores is None
        assert read.masks.dtype == bool and read.masks.shape == (1, 5, 6) and read.masks.sum() == 16


def test_index_maps():
    maps = [torch.arange(6).reshape(1, 2, 3) + i for i in range(2)]
    sample = BaseDataElement(gt_sem_seg=PixelData(data=maps[0]), pred_sem_seg=PixelData(data=maps[1]))
    for read, expected in zip(read_sample(sample, .3), maps):
        assert np.array_equal(read, expected[0].numpy())
    assert read_sample(BaseDataElement(pred_sem_seg=PixelData(data=maps[1])), .3)[0] is None


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(UserError, match='only pred_panoptic_seg'):
        read_sample(BaseDataElement(pred_panoptic_seg=PixelData(data=torch.zeros(1, 2, 2))), .3)
