"""Boxes of all images of a batch together: moved, clipped, the best ones of them, and suppressed, as mmdet does it."""
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Candidates(NamedTuple):
    """Boxes ``(N, P, 4)`` and their scores ``(N, P)``; a score below 0 marks a place that no box takes."""

    boxes: Tensor
    scores: Tensor


def pad_to_divisor(x: Tensor, preprocessor: Any) -> Tensor:
    """Return images padded at the right and at the bottom to multiples of a detector's ``pad_size_divisor``."""
    more = [-side % preprocessor.pad_size_divisor for side in x.shape[2:]]
    return F.pad(x, (0, more[1], 0, more[0]), value=preprocessor.pad_value)


def decode(coder: Any, boxes: Tensor, deltas: Tensor, size: torch.Size) -> Tensor:
    """Return boxes ``(..., 4)`` moved by deltas, clipped to an image of ``size``, as mmdet's ``delta2bbox`` does."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    sides = boxes[..., 2:] - boxes[..., :2]
    limit = abs(torch.tensor(16 / 1000).log().item())
    centers = (boxes[..., :2] + boxes[..., 2:]) * .5 + sides * deltas[..., :2]
    sides = sides * deltas[..., 2:].clamp(-limit, limit).exp()
    return clip(torch.cat((centers - sides * .5, centers + sides * .5), -1), size)


def clip(moved: Tensor, size: torch.Size) -> Tensor:
    """Return boxes ``(..., 4)`` cut at the edges of an image of ``size``."""
    if not torch.jit.is_tracing():
        x, y = (moved[..., axis::2].clamp(0, size[1 - axis]) for axis in (0, 1))
        return torch.stack((x, y), -1).flatten(-2)
    # As a tensor: a traced number would be the example's.
    height, width = (torch.as_tensor(side, device=moved.device).to(moved.dtype) for side in size)
    return torch.minimum(moved.clamp(min=0), torch.stack((width, height, width, height)))


def order(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the ``number`` best scores of each image in order, and their indices; more than there are, are -1."""
    # So that there are as many: the number of scores depends on the image.
    scores = F.pad(scores, (0, number), value=-1.)
    if torch.onnx.is_in_onnx_export():
        # ONNX says that of equal scores the first one is taken; torch says so of a stable sort alone.
        return scores.topk(number)
    values, index = scores.sort(stable=True, descending=True)
    return values[:, :number], index[:, :number]


def best(candidates: Candidates, number: int) -> tuple[Candidates, Tensor]:
    """Return the ``number`` best candidates of each image in order, and their indices; more than there are score -1."""
    scores, index = order(candidates.scores, number)
    boxes = F.pad(candidates.boxes, (0, 0, 0, number))
    return Candidates(boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores), index


class Suppression(torch.autograd.Function):
    """NMS of all images of a batch: ONNX has it as one operator, where torchvision's takes one image at a time."""

    @staticmethod
    def forward(_, boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
        """Return image, 0 and place of each box that is kept, ``(R, 3)``; scores are ``(N, 1, P)``."""
        image, place = suppress_images(boxes, scores[:, 0], iou)
        return torch.stack((image, torch.zeros_like(image), place), 1)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float) -> Any:
        """Return ONNX's operator."""
        most, least = torch.tensor([2 ** 31 - 1]), torch.tensor([-.5])
        limits = [g.op('Constant', value_t=value) for value in (most, torch.tensor([iou]), least)]
        return g.op('NonMaxSuppression', boxes, scores, *limits)


def suppress_images(boxes: Tensor, scores: Tensor, iou: float) -> tuple[Tensor, Tensor]:
    """Return image and place of each box that torchvision's NMS keeps; images are parted exactly, in float64."""
    from torchvision.ops import nms
    image, place = (scores >= 0).nonzero().unbind(1)
    there = boxes[image, place].double()
    apart = there + (image * (boxes.amax() + 1).double())[:, None]
    kept = nms(apart, scores[image, place].double(), iou)
    return image[kept], place[kept]


def suppress(candidates: Candidates, groups: Tensor, settings: Any) -> Candidates:
    """Take the scores of candidates that overlap better ones of their image and group, ``(N, P)``."""
    boxes, scores = candidates
    if not settings.get('class_agnostic', False):
        # Groups are moved apart as mmcv's batched_nms does it: of small boxes, its rounding decides what overlaps.
        farthest = boxes.masked_fill((scores < 0)[..., None], 0).flatten(1).amax(1)[:, None]
        boxes = boxes + (groups.to(boxes.dtype) * (farthest + 1))[..., None]
    if torch.onnx.is_in_onnx_export():
        image, _, place = Suppression.apply(boxes, scores[:, None], settings.iou_threshold).unbind(1)
    else:
        image, place = suppress_images(boxes, scores, settings.iou_threshold)
    return candidates._replace(scores=torch.full_like(scores, -1.).index_put((image, place), scores[image, place]))
