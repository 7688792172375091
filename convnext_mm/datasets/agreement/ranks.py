"""Compare the ranks that the accuracy of a classifier counts with the number of its classes."""
from collections.abc import Sequence
from typing import Any

from convnext_mm.datasets.agreement.parts import evaluators
from convnext_mm.datasets.heads import head_classes
from convnext_mm.utils.configs import is_classifier, type_name
from convnext_mm.utils.errors import UserError


def check_ranks(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that a classifier has as many classes as its evaluators rank: top-5 takes five.

    Raises:
        UserError: It has fewer; the message has both numbers.
    """
    classes = min((number for _, number in head_classes(cfg.model)), default=None) if is_classifier(cfg.model) else None
    for split in splits if classes else ():
        for _, metric in evaluators(cfg, split):
            ranks = metric.get('topk', 1) if type_name(metric) == 'Accuracy' else 1
            ranks = (ranks,) if isinstance(ranks, int) else tuple(ranks)
            if max(ranks) > classes:
                raise UserError(f'{split}_evaluator has Accuracy with topk={ranks}, but the model has {classes} '
                                f'classes: give it topk=(1,), or ranks up to {classes}')
