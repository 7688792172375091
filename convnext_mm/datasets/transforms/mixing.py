"""Mixup and CutMix of whole batches, by timm."""
import torch

from convnext_mm.datasets.transforms.official import timm_data
from convnext_mm.utils.arguments import check_number
from convnext_mm.utils.errors import ArgumentValueError, UserError


class MixupCutmix:
    """Mix every batch with itself in reversed order, by Mixup or by CutMix.

    A batch augment of mmpretrain: ``train_cfg=dict(augments=dict(type='convnext_mm.datasets.transforms.MixupCutmix'))``
    of an ``ImageClassifier``. mmpretrain's own mix with a random permutation. timm draws from numpy's global state.
    Labels are smoothed by the loss: smoothing before and after mixing is the same.

    Args:
        mixup_alpha, cutmix_alpha (float): Of the beta distributions; 0 turns one of both off. Default to 0.8 and 1.
        prob (float): Of a batch to be mixed. Defaults to 1.
        switch_prob (float): Of CutMix for a mixed batch, where both are on. Defaults to 0.5.

    Raises:
        UserError: timm is not installed.
        ArgumentTypeError, ArgumentValueError: A value out of its range.
    """

    def __init__(self, mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5):
        for name, value in (('mixup_alpha', mixup_alpha), ('cutmix_alpha', cutmix_alpha)):
            check_number(name, value, 0)
        for name, value in (('prob', prob), ('switch_prob', switch_prob)):
            if check_number(name, value, 0) > 1:
                raise ArgumentValueError(f'{name} is a probability, from 0 to 1, got {value}')
        if not mixup_alpha and not cutmix_alpha:
            raise ArgumentValueError('mixup_alpha and cutmix_alpha are both 0, which mixes nothing: leave '
                                     'model.train_cfg.augments out')
        self.mixup = timm_data().Mixup(mixup_alpha, cutmix_alpha, prob=prob, switch_prob=switch_prob,
                                       label_smoothing=0.0)

    def __call__(self, inputs: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a mixed batch, (N, 3, H, W) of an even N, and its soft labels, (N, K); ``inputs`` is overwritten.

        Args:
            inputs (Tensor): Images.
            scores (Tensor): One-hot labels, (N, K).

        Raises:
            UserError: N is odd.
        """
        if len(inputs) % 2:
            raise UserError(f'a batch of {len(inputs)} images cannot be mixed: train_dataloader.batch_size must be '
                            'even, with train_dataloader.drop_last=True')
        self.mixup.num_classes = scores.shape[1]
        return self.mixup(inputs, scores.argmax(1))
