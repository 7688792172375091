"""What mmdet itself detects in images, and whether a graph detects the same."""
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from convnext_mm.export.check import ExportError

#: How near a detection must come: overlap of boxes and of masks, and the difference of scores.
OVERLAP, SCORE = .99, 1e-3
#: Pixels between corners that are the same: a box narrower than a pixel loses 1 % of overlap by less.
CORNERS = .01
#: Fewer detections, or of fewer classes, show nothing.
DETECTIONS, CLASSES = 10, 3

#: Names of what a :class:`Comparison` returns.
COLUMNS = 'detections', 'scores'


class _FirstOfEqual(TorchDispatchMode):
    """Have every sort take equal values in their order, mmcv's compiled ones included.

    Scores are often equal to the last bit: boxes in the half cell of a map at an image's edge have the same features,
    and objectness near 1 has few values. Which one suppresses the other, torch's sort leaves to the processor.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.sort.default:
            named = dict(zip(('dim', 'descending'), args[1:]), **(kwargs or {}))
            return torch.ops.aten.sort.stable(args[0], stable=True, **named)
        return func(*args, **(kwargs or {}))


def predict(model: Any, images: Tensor) -> list[Tensor]:
    """Return what mmdet detects, for each image boxes, scores, labels and masks (of no image's size without masks).

    Args:
        model (nn.Module): The detector.
        images (Tensor): RGB, uint8, ``(N, 3, H, W)``.
    """
    from mmdet.structures import DetDataSample
    shape = tuple(images.shape[2:])
    samples = [DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1., 1.))) for _ in images]
    # mm reads images as BGR.
    with _FirstOfEqual():
        results = model.test_step(dict(inputs=[image.flip(0) for image in images], data_samples=samples))
    found = [result.pred_instances for result in results]
    return [part for each in found for part in (
        each.bboxes, each.scores, each.labels, each.masks if 'masks' in each else torch.zeros(len(each), *shape))]


def paste(masks: Tensor, boxes: Tensor, size: Sequence[int], threshold: float = .5) -> Tensor:
    """Return masks within boxes as masks of an image, as mmdet does, by bilinear sampling at the pixels' centres.

    Args:
        masks (Tensor): Probabilities, ``(K, h, w)``.
        boxes (Tensor): ``(K, 4)``, in pixels of the image.
        size (Sequence[int]): Height and width of the image.
        threshold (float): From which probability on a pixel is the object's. Defaults to 0.5.

    Returns:
        Tensor: bool, ``(K, *size)``.
    """
    pasted = torch.zeros(len(masks), *size, dtype=torch.bool)
    for whole, mask, box in zip(pasted, masks, boxes):
        rows, columns, part = _resample(mask, box, size)
        whole[rows, columns] = part >= threshold
    return pasted


def _resample(mask, box, size):
    """Return the rows and the columns that a box touches, as slices, and the probabilities of their pixels."""
    # A pixel more on each side. A file that is wrong may have boxes outside of the image.
    sides = box.new_tensor([size[1], size[0]])
    start, stop = (torch.minimum(side.nan_to_num().clamp(min=0), sides).int().tolist()
                   for side in (box[:2].floor() - 1, box[2:].ceil() + 1))
    columns, rows = map(slice, start, stop)
    x, y = ((torch.arange(axis.start, axis.stop) + .5 - box[i]) / (box[i + 2] - box[i]) * 2 - 1
            for i, axis in enumerate((columns, rows)))
    # Of a box without width or height, mmdet takes the middle of the mask.
    x, y = x.masked_fill(x.isinf(), 0), y.masked_fill(y.isinf(), 0)
    grid = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), -1)
    if not grid.numel():
        return rows, columns, grid[..., 0]
    return rows, columns, F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]


def mask_threshold(test_cfg: Any) -> float:
    """Return from which probability on a detector's ``test_cfg`` takes a pixel for the object's."""
    return (test_cfg.get('rcnn') or test_cfg).get('mask_thr_binary', .5)


class Comparison:
    """Compares detections of mmdet and of a graph, image by image, and counts those that were found in both.

    Args:
        threshold (float): From which probability on a pixel is the object's. Defaults to 0.5.
    """

    def __init__(self, threshold: float = .5) -> None:
        self.threshold, self.number, self.classes = threshold, 0, set[int]()

    def __call__(self, expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[str]:
        """Return how many detections agree, and the largest difference of scores.

        Args:
            expected (Sequence[ndarray]): What :func:`predict` returns.
            found (Sequence[ndarray]): What the graph returns.

        Raises:
            ExportError: A detection of mmdet's has no counterpart, or there are more or fewer.
        """
        before, worst = self.number, 0.
        for image, count in enumerate(found[3].tolist()):
            wanted = [torch.from_numpy(part) for part in expected[4 * image:4 * image + 4]]
            boxes, scores, labels = (torch.from_numpy(part[image, :count]) for part in found[:3])
            if len(wanted[0]) != count:
                raise ExportError(f'{count} detections in image {image}, not {len(wanted[0])}')
            masks = torch.from_numpy(found[4][image, :count]) if len(found) > 4 else None
            for detection in zip(*wanted):
                # Where there is room for no more, either of two with nearly the last score may have the last place.
                last = wanted[1].min() + SCORE if count == found[0].shape[1] else 0.
                worst = max(worst, self._find(detection, (boxes, scores, labels, masks), last, image))
        return [f'{self.number - before} of {len(self.classes)} classes', f'{worst:.1e}']

    def _find(self, detection, found, last, image):
        """Return the difference of a detection's score and that of its counterpart."""
        (box, score, label, mask), (boxes, scores, labels, masks) = detection, found
        near = (labels == label) & ((scores - score).abs() <= SCORE) & _is_near(box, boxes)
        if masks is not None:
            for index in near.nonzero()[:, 0]:
                differ, either = _compare_masks(mask, masks[index], box, self.threshold)
                near[index] = differ <= (1 - OVERLAP) * either
        if near.any():
            self.number += 1
            self.classes.add(int(label))
            return (scores[near] - score).abs().min().item()
        if score > last:
            raise ExportError(f'image {image} lacks the detection of class {int(label)} with score {score:.3f} at '
                              f'{[round(side) for side in box.tolist()]}; '
                              f'{_describe_nearest(detection, found, self.threshold)}')
        return 0.

    def remark(self) -> str:
        """Return in a sentence that too little was found to show anything, or an empty text."""
        if self.number >= DETECTIONS and len(self.classes) >= CLASSES:
            return ''
        return (f'The check showed nothing: {self.number} detections of {len(self.classes)} classes, where '
                f'{DETECTIONS} of {CLASSES} are needed; give pictures in which there is something by --images')


def _describe_nearest(detection, found, threshold):
    """Return in words how far the nearest detection of the same class is from one."""
    (box, score, label, mask), (boxes, scores, labels, masks) = detection, found
    corners = (boxes - box).abs().amax(1).masked_fill(labels != label, torch.inf)
    if not len(corners) or corners.min() == torch.inf:
        return 'there is none of its class'
    index = corners.argmin()
    pixels = ''
    if masks is not None:
        differ, either = _compare_masks(mask, masks[index], box, threshold)
        pixels = f' and by {differ} of {either} pixels of the mask'
    return (f'the nearest of its class differs by {corners[index]:.2g} pixels at a corner, by '
            f'{(scores[index] - score).abs():.1e} in its score{pixels}')


def _compare_masks(expected, probabilities, box, threshold):
    """Return in how many pixels masks differ, and how many either has; the second is given within its box.

    It is put into the box of the first: boxes are compared for themselves, and in one of a few pixels' height, the last
    digit of a corner moves the mask by more than its rows. A pixel within ``SCORE`` of the threshold may be on either
    side of it.
    """
    rows, columns, part = _resample(probabilities, box, expected.shape)
    found = torch.zeros_like(expected, dtype=torch.bool)
    found[rows, columns] = part >= threshold
    differ = found ^ expected
    differ[rows, columns] &= (part - threshold).abs() > SCORE
    return int(differ.sum()), int((found | expected).sum())


def _is_near(box, boxes):
    """Return which boxes overlap a box enough, or have the same corners: boxes without an area cannot overlap."""
    from torchvision.ops import box_iou
    # Two boxes without an area have no overlap (NaN).
    return (box_iou(box[None], boxes)[0] >= OVERLAP) | ((boxes - box).abs().amax(1) <= CORNERS)
