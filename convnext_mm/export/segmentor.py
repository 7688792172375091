"""A segmentor as one graph, from an image of bytes to labels, and what mmseg itself makes of the same image."""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnext_mm.export.graph import LogitsGraph
from convnext_mm.export.images import normalise


class SegmentorGraph(LogitsGraph):
    """An encoder and decoder of mmseg's with what stands before and after it: padding, normalisation, resizing, argmax.

    Args:
        model (nn.Module): mmseg's ``EncoderDecoder``, in eval mode.
        logits (bool): Return the logits too. Defaults to False.
    """

    result = 'labels'

    def forward(self, images: Tensor, size: Any) -> tuple[Tensor, ...]:
        """Return the class of every pixel, and with ``logits`` the logits.

        Args:
            images (Tensor): RGB, uint8, ``(N, 3, H, W)``, after the resizing of the config's test.
            size (Tensor | Sequence[int]): Height and width of the result, to which logits are resized.

        Returns:
            tuple[Tensor, ...]: Labels, int64, ``(N, *size)``; logits, float32, ``(N, K, *size)``.
        """
        x = _pad(normalise(images, self.model.data_preprocessor), self.model.data_preprocessor)
        logits = self.model.encode_decode(x, [dict(img_shape=x.shape[2:])])
        logits = logits[:, :, :images.shape[2], :images.shape[3]]
        logits = F.interpolate(logits, (size[0], size[1]), mode='bilinear', align_corners=self.model.align_corners)
        if logits.shape[1] == 1:
            labels = (logits.sigmoid() > self.model.decode_head.threshold).long()[:, 0]
        else:
            labels = logits.argmax(1)
        return self.results(labels, logits)


def _pad(x, preprocessor):
    """Pad images at the right and at the bottom as the preprocessor does in a test."""
    settings = preprocessor.test_cfg or {}
    height, width = x.shape[2:]
    if settings.get('size') is not None:
        more = [torch.sym_max(side - now, 0) if not torch.jit.is_tracing() else F.relu(torch.as_tensor(side - now))
                for side, now in zip(settings['size'], (height, width))]
    elif settings.get('size_divisor') is not None:
        divisor = settings['size_divisor']
        more = [(divisor - now % divisor) % divisor for now in (height, width)]
    else:
        return x
    return F.pad(x, (0, more[1], 0, more[0]), value=preprocessor.pad_val)


def predict(model: Any, images: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return what mmseg makes of whole images: labels ``(N, *size)`` and logits ``(N, K, *size)``.

    Args:
        model, images, size: As in :class:`SegmentorGraph`.
    """
    from mmseg.structures import SegDataSample
    shape = tuple(images.shape[2:])
    samples = [SegDataSample(metainfo=dict(ori_shape=size, img_shape=shape, pad_shape=shape)) for _ in images]
    # mm reads images as BGR.
    data = model.data_preprocessor(dict(inputs=[image.flip(0) for image in images], data_samples=samples), False)
    logits = model.encode_decode(data['inputs'], [sample.metainfo for sample in data['data_samples']])
    results = model.postprocess_result(logits, data['data_samples'])
    labels = torch.stack([result.pred_sem_seg.data[0] for result in results]).long()
    if logits.shape[1] > 1:
        return labels, torch.stack([result.seg_logits.data for result in results])
    # Of a single class, mmseg returns the logits' sigmoid.
    logits = logits[:, :, :shape[0], :shape[1]]
    return labels, F.interpolate(logits, size, mode='bilinear', align_corners=model.align_corners)
