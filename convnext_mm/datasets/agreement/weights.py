"""Compare the lengths of losses' ``class_weight`` with the number of classes."""
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine import fileio

from convnext_mm.datasets.agreement.ignored import losses
from convnext_mm.utils.configs import type_name, walk
from convnext_mm.utils.errors import UserError

#: Heads that predict masks with a class each, and "nothing" as one more.
_QUERIES = ('MaskFormerHead', 'Mask2FormerHead')
_ONE_MORE = ('SideAdapterCLIPHead',)


def check_class_weights(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that a ``class_weight`` has a value for each class that its loss knows.

    Raises:
        UserError: It does not; the message has both numbers and the config keys.
    """
    if 'train' not in splits:
        return
    for path, head in walk(cfg.model, ('model',)):
        key = '.'.join(map(str, path))
        for name, loss in losses(head, key):
            weights = _read(loss.get('class_weight'))
            takes = _number(head, name[len(key) + 1:], loss)
            if weights is None or not takes or len(weights) == takes[0]:
                continue
            raise UserError(f'{name}.class_weight has {len(weights)} values, but {takes[1]} with '
                            f'{key}.num_classes={head.get("num_classes")} takes {takes[0]}: set {name}.class_weight, '
                            f'or {key}.num_classes')


def _read(weights):
    """Return the values of a ``class_weight``, which mmseg reads from a file too; None where there are not several."""
    if isinstance(weights, str) and os.path.isfile(weights):
        weights = np.load(weights).tolist() if weights.endswith('.npy') else fileio.load(weights)
    return weights if isinstance(weights, Sequence) and not isinstance(weights, str) else None


def _number(head: Mapping, name: str, loss: Mapping):
    """Return (number of weights, what takes them) of a loss of a head; None where the number is unknown."""
    number, kind = head.get('num_classes'), type_name(loss)
    if type_name(head) in _ONE_MORE and kind == 'CrossEntropyLoss' and isinstance(number, int):
        return number + 1, f'{kind} (each class, then "no object")'
    if name.startswith('loss_decode') and isinstance(number, int):
        if kind == 'CrossEntropyLoss' and loss.get('use_sigmoid'):
            return 1, f'{kind} with use_sigmoid=True (a weight of the positive pixels)'
        if kind in ('CrossEntropyLoss', 'OhemCrossEntropy', 'TverskyLoss', 'LovaszLoss'):
            return head.get('out_channels') or number, kind
    if name.startswith('loss_cls') and kind == 'CrossEntropyLoss':
        things = head.get('num_things_classes')
        if type_name(head) in _QUERIES and isinstance(things if number is None else number, int):
            total = number if number is not None else things + head.get('num_stuff_classes', 0)
            return total + 1, f'{kind} (each class, then "no object")'
        if isinstance(number, int) and loss.get('use_sigmoid'):
            return number, f'{kind} with use_sigmoid=True'
        if isinstance(number, int):
            return number + 1, f'{kind} (each class, then background)'
    return None
