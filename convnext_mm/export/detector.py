"""A two-stage detector as one graph, from an image of bytes to boxes, labels and masks.

The prediction is written anew from the model's own modules: mmdet's goes over images in Python and suppresses boxes by
compiled operators, neither of which exports. Here, all images of a batch go through every step together.
"""
import functools
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from convnext_mm.export.boxes import Candidates, best, decode, pad_to_divisor, suppress
from convnext_mm.export.detections import mask_threshold
from convnext_mm.export.graph import ModelGraph
from convnext_mm.export.images import normalise
from convnext_mm.export.parts import check_nms, check_parts
from convnext_mm.utils.errors import UserError


class DetectorGraph(ModelGraph):
    """mmdet's Faster, Mask and Cascade R-CNN with what stands before and after them.

    Args:
        model (nn.Module): The detector; :func:`check_detector` says what it may have.
    """

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the results."""
        names = 'boxes', 'scores', 'labels', 'count'
        return (*names, 'masks') if self.model.roi_head.with_mask else names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the detections of images, the best ones first, ``K`` the config's ``max_per_img``.

        Args:
            images (Tensor): RGB, uint8, ``(N, 3, H, W)``, after the resizing of the config's test.

        Returns:
            tuple[Tensor, ...]: Boxes ``(N, K, 4)`` as left, top, right and bottom in pixels; scores ``(N, K)``; labels
            ``(N, K)``; the number of detections of each image, ``(N)``, behind which all is 0; where the model has
            masks, their probabilities within the boxes, ``(N, K, 28, 28)``.
        """
        size = images.shape[2:]
        maps = self.model.extract_feat(pad_to_divisor(normalise(images, self.model.data_preprocessor),
                                                      self.model.data_preprocessor))
        proposals = propose(self.model.rpn_head, maps, size)
        boxes, scores, labels = detect(self.model.roi_head, maps, proposals, size)
        is_there = scores >= 0
        boxes, labels = boxes * is_there[..., None], labels * is_there
        results = boxes, scores.clamp(min=0), labels, is_there.sum(1)
        if not self.model.roi_head.with_mask:
            return results
        masks = predict_masks(self.model.roi_head, maps, boxes, labels.reshape(-1))
        return *results, masks.reshape(*scores.shape, *masks.shape[1:])


def propose(head: Any, maps: tuple[Tensor, ...], size: torch.Size) -> Candidates:
    """Return the proposals of an ``RPNHead``, ``max_per_img`` for each image."""
    settings, outputs = head.test_cfg, head(maps)
    priors = head.prior_generator.grid_priors([scores.shape[-2:] for scores in outputs[0]], device=maps[0].device)
    levels = []
    for scores, deltas, anchors in zip(*outputs, priors):
        scores = scores.permute(0, 2, 3, 1).flatten(1).sigmoid()
        deltas = deltas.permute(0, 2, 3, 1).reshape(scores.shape[0], -1, 4)
        moved = decode(head.bbox_coder, anchors[None].expand(scores.shape[0], -1, -1), deltas, size)
        levels.append(best(Candidates(moved, scores), settings.nms_pre)[0])
    candidates = Candidates(*(torch.cat(parts, 1) for parts in zip(*levels)))
    groups = torch.arange(len(levels), device=maps[0].device).repeat_interleave(settings.nms_pre)
    sides = candidates.boxes[..., 2:] - candidates.boxes[..., :2]
    small = sides.amin(-1) <= settings.get('min_bbox_size', -1)
    candidates = candidates._replace(scores=candidates.scores.masked_fill(small, -1))
    candidates = suppress(candidates, groups.expand(candidates.scores.shape), settings.nms)
    return best(candidates, settings.max_per_img)[0]


def extract(extractor: Any, maps: tuple[Tensor, ...], rois: Tensor) -> Tensor:
    """Return what a ``SingleRoIExtractor`` does of rois ``(R, 5)``: each from the map of its size."""
    from torchvision.ops import roi_align
    maps = maps[:len(extractor.featmap_strides)]
    levels, found, places = extractor.map_roi_levels(rois, len(maps)), [], []
    for level, (layer, features) in enumerate(zip(extractor.roi_layers, maps)):
        place = (levels == level).nonzero()[:, 0]
        places.append(place)
        found.append(roi_align(features, rois[place], layer.output_size, layer.spatial_scale, layer.sampling_ratio,
                               layer.aligned))
    return torch.cat(found)[torch.cat(places).argsort()]


def to_rois(boxes: Tensor) -> Tensor:
    """Return boxes ``(N, P, 4)`` as rois ``(N * P, 5)``, with the number of the image before the box."""
    number = torch.arange(boxes.shape[0], device=boxes.device).to(boxes.dtype)[:, None, None]
    return torch.cat((number.expand(-1, boxes.shape[1], 1), boxes), -1).reshape(-1, 5)


def stages(part: Any) -> list[Any]:
    """Return the part of each stage of a cascade; of another detector, its only one."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def detect(head: Any, maps: tuple[Tensor, ...], proposals: Candidates,
           size: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes, scores and labels, ``max_per_img`` for each image; places without a detection score -1."""
    rois, logits, heads = to_rois(proposals.boxes), [], stages(head.bbox_head)
    for extractor, stage in zip(stages(head.bbox_roi_extractor), heads):
        scores, deltas = stage(extract(extractor, maps, rois))
        logits.append(scores)
        deltas = deltas.reshape(scores.shape[0], -1, 4)
        if stage is not heads[-1]:
            if not stage.reg_class_agnostic:
                label = scores[:, :-1].argmax(1)
                deltas = deltas.gather(1, label[:, None, None].expand(-1, 1, 4))
            rois = torch.cat((rois[:, :1], decode(stage.bbox_coder, rois[:, 1:], deltas[:, 0], size)), 1)
    classes = heads[-1].num_classes
    scores = (functools.reduce(torch.add, logits) / len(logits)).softmax(-1)[:, :-1]
    boxes = decode(heads[-1].bbox_coder, rois[:, None, 1:].expand(-1, deltas.shape[1], 4), deltas, size)
    scores = scores.masked_fill((scores <= head.test_cfg.score_thr) | (proposals.scores.reshape(-1, 1) < 0), -1)
    shape = proposals.scores.shape[0], -1
    candidates = Candidates(boxes.expand(-1, classes, 4).reshape(*shape, 4), scores.reshape(shape))
    labels = torch.arange(classes, device=boxes.device).repeat(proposals.scores.shape[1])
    candidates = suppress(candidates, labels.expand(candidates.scores.shape), head.test_cfg.nms)
    found, index = best(candidates, head.test_cfg.max_per_img)
    return *found, index % classes


def predict_masks(head: Any, maps: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
    """Return the mask of each box in the box, ``(N * K, 28, 28)``, as probabilities; the mean of a cascade's stages."""
    rois, masks = to_rois(boxes), []
    for extractor, stage in zip(stages(head.mask_roi_extractor), stages(head.mask_head)):
        found = stage(extract(extractor, maps, rois)).sigmoid()
        place = torch.zeros_like(labels) if stage.class_agnostic else labels
        masks.append(found[torch.arange(found.shape[0], device=found.device), place])
    return functools.reduce(torch.add, masks) / len(masks)


#: Classes of parts that the functions above follow; of any other, nobody knows what it does in a test.
KNOWN = {
    '': ('FasterRCNN', 'MaskRCNN', 'CascadeRCNN'), 'rpn_head': ('RPNHead',),
    # Of the second and the third, training alone is their own.
    'roi_head': ('StandardRoIHead', 'DynamicRoIHead', 'PISARoIHead', 'CascadeRoIHead'),
    'bbox_roi_extractor': ('SingleRoIExtractor',),
    'bbox_head': ('BBoxHead', 'Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead', 'ConvFCBBoxHead'),
    'mask_roi_extractor': ('SingleRoIExtractor',), 'mask_head': ('FCNMaskHead',),
    'bbox_coder': ('DeltaXYWHBBoxCoder',), 'prior_generator': ('AnchorGenerator',), 'roi_layers': ('RoIAlign',),
}


def check_detector(model: Any) -> None:
    """Refuse a detector with a part or a setting that the graph does not follow.

    Raises:
        UserError: Naming the part.
    """
    check_parts(model, KNOWN)
    for path, part in model.named_modules():
        if getattr(part, 'custom_activation', False):
            raise UserError(f'model.{path}.loss_cls={type(part.loss_cls).__name__} cannot be exported: its scores are '
                            'no softmax; --part backbone exports the backbone alone')
    for path, settings in (('rpn', model.rpn_head.test_cfg), ('rcnn', model.roi_head.test_cfg)):
        check_nms(f'model.test_cfg.{path}.nms', settings.nms)
    threshold = mask_threshold(model.test_cfg)
    if threshold < 0:
        raise UserError(f'model.test_cfg.rcnn.mask_thr_binary={threshold} cannot be exported: masks are no bytes; take '
                        'one from 0 to 1')
