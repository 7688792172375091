"""A detector of one stage as one graph: the candidates of every level, suppressed by class, without RoIs."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnext_mm.export.boxes import Candidates, best, clip, decode, order, pad_to_divisor, suppress
from convnext_mm.export.graph import ModelGraph
from convnext_mm.export.images import normalise
from convnext_mm.export.parts import GRANTED, check_nms, check_parts


class DenseGraph(ModelGraph):
    """mmdet's RetinaNet, FCOS, ATSS and their like with what stands before and after them.

    Args:
        model (nn.Module): The detector; :func:`check_dense` says what it may have.
    """

    outputs = 'boxes', 'scores', 'labels', 'count'

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the detections of images, as ``DetectorGraph`` does, without masks.

        Args:
            images (Tensor): RGB, uint8, ``(N, 3, H, W)``, after the resizing of the config's test.
        """
        size, head = images.shape[2:], self.model.bbox_head
        maps = self.model.extract_feat(pad_to_divisor(normalise(images, self.model.data_preprocessor),
                                                      self.model.data_preprocessor))
        levels = list(zip(*head(maps)))
        priors = head.prior_generator.grid_priors([level[0].shape[-2:] for level in levels], device=maps[0].device)
        found = [candidates(head, level, prior, size) for level, prior in zip(levels, priors)]
        boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*found))
        kept, index = best(suppress(Candidates(boxes, scores), labels, head.test_cfg.nms), head.test_cfg.max_per_img)
        is_there = kept.scores >= 0
        labels = F.pad(labels, (0, head.test_cfg.max_per_img)).gather(1, index)
        return kept.boxes * is_there[..., None], kept.scores.clamp(min=0), labels * is_there, is_there.sum(1)


def candidates(head: Any, outputs: tuple[Tensor, ...], priors: Tensor,
               size: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes, scores and labels of a level, ``nms_pre`` for each image; places without a box score -1."""
    settings, classes = head.test_cfg, head.cls_out_channels
    scores, deltas, *factors = (part.permute(0, 2, 3, 1).flatten(1) for part in outputs)
    scores = scores.sigmoid()
    scores = scores.masked_fill(scores <= settings.get('score_thr', 0), -1)
    deltas = deltas.reshape(scores.shape[0], -1, 4)
    if type(head.bbox_coder).__name__ == 'DistancePointBBoxCoder':
        boxes = clip(torch.cat((priors[:, :2] - deltas[..., :2], priors[:, :2] + deltas[..., 2:]), -1), size)
    else:
        boxes = decode(head.bbox_coder, priors[None].expand(scores.shape[0], -1, -1), deltas, size)
    scores, index = order(scores, settings.nms_pre)
    # Beyond the candidates stand places that no box takes.
    prior = (index // classes).clamp(max=priors.shape[0] - 1)
    boxes = boxes.gather(1, prior[..., None].expand(-1, -1, 4))
    is_there = scores >= 0
    if factors:
        scores = scores * factors[0].sigmoid().gather(1, prior)
    is_there = is_there & ((boxes[..., 2:] - boxes[..., :2]).amin(-1) > settings.get('min_bbox_size', -1))
    return boxes, scores.masked_fill(~is_there, -1), index % classes


#: Classes of parts that the functions above follow; the last three heads differ in training or in layers alone.
KNOWN = {'': ('RetinaNet', 'FCOS', 'ATSS', 'SingleStageDetector'),
         'bbox_head': ('RetinaHead', 'FCOSHead', 'ATSSHead', 'FreeAnchorRetinaHead', 'PISARetinaHead',
                       'RetinaSepBNHead'),
         'bbox_coder': ('DeltaXYWHBBoxCoder', 'DistancePointBBoxCoder'),
         'prior_generator': ('AnchorGenerator', 'MlvlPointGenerator')}


def check_dense(model: Any) -> None:
    """Refuse a detector of one stage with a part or a setting that the graph does not follow.

    Raises:
        UserError: Naming the part.
    """
    check_parts(model, KNOWN, dict(GRANTED, bbox_head=dict(use_sigmoid_cls=True)))
    check_nms('model.test_cfg.nms', model.test_cfg.nms)
