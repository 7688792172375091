"""A classifier as one graph, from an image to confidences, and what mmpretrain itself makes of the same image."""
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from convnext_mm.export.graph import LogitsGraph
from convnext_mm.utils.errors import UserError


def takes_bytes(preprocessor: Any) -> bool:
    """Return whether a model normalises its images; else the config's transforms have done so.

    Args:
        preprocessor (nn.Module | dict): The model's data preprocessor, or the config of one.
    """
    return bool(preprocessor.get('mean') if isinstance(preprocessor, Mapping) else preprocessor._enable_normalize)


def check_classifier(model: Any) -> None:
    """Refuse a classifier whose confidences are not the softmax of its head's logits.

    Raises:
        UserError: Naming the head.
    """
    from mmpretrain.models import ClsHead
    kind = type(model.head)
    if getattr(kind, '_get_predictions', None) is not ClsHead._get_predictions or kind.predict is not ClsHead.predict:
        raise UserError(f'model.head={kind.__name__} cannot be exported: taken are heads with one class an image, such '
                        'as LinearClsHead; --part backbone exports the backbone alone')


class ClassifierGraph(LogitsGraph):
    """An ``ImageClassifier`` of mmpretrain's with the normalisation before it, if it has one, and the softmax after it.

    Args:
        model (nn.Module): The classifier, in eval mode.
        logits (bool): Return the logits too. Defaults to False.
    """

    result = 'scores'

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the confidence of every class, (N, K), and with ``logits`` the logits.

        Args:
            images (Tensor): ``(N, 3, H, W)`` after the transforms of the config's test: RGB, uint8, where the model
                normalises; else as they are, float32.
        """
        preprocessor, x = self.model.data_preprocessor, images.float()
        if takes_bytes(preprocessor):
            x = (x if preprocessor.to_rgb else x.flip(1)).sub(preprocessor.mean).div(preprocessor.std)
        elif preprocessor.to_rgb:
            x = x.flip(1)
        logits = self.model(x)
        return self.results(logits.softmax(1), logits)


def predict(model: Any, logits: bool, images: Tensor) -> tuple[Tensor, ...]:
    """Return what mmpretrain makes of images: confidences, (N, K), and with ``logits`` the logits.

    Args:
        model, logits, images: As in :class:`ClassifierGraph`.
    """
    # mm reads images as BGR.
    images = images.flip(1) if takes_bytes(model.data_preprocessor) else images
    inputs = model.data_preprocessor(dict(inputs=images))['inputs']
    scores = torch.stack([sample.pred_score for sample in model.predict(inputs)])
    return (scores, model(inputs)) if logits else (scores,)
