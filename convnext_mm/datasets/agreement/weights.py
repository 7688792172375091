"""Compare the lengths of losses' ``class_weight`` with the number of classes."""
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine import fileio
from mmengine.registry import MODELS

from convnext_mm.datasets.agreement.ignored import heads, losses
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
    for name, key, loss, head in _decoded(cfg.model):
        error = _try_loss(loss, head)
        if error:
            raise UserError(f'{name}.class_weight has {len(_read(loss["class_weight"]))} values, with which '
                            f'{type_name(loss)} fails at {key}.num_classes={head["num_classes"]} ({error}): take it '
                            'out, or give it to CrossEntropyLoss')


def check_ignored_pixels(model: Mapping, key: str) -> None:
    """Make sure that the losses of a segmentor with a ``class_weight`` take masks in which pixels are ignored.

    Args:
        model (Mapping): Its config.
        key (str): Of a data set that has ignored pixels.

    Raises:
        UserError: One fails on them in the installed version of mmseg.
    """
    for name, _, loss, head in _decoded(model):
        error = _try_loss(loss, head, head.get('ignore_index', 255))
        if error:
            raise UserError(f'{name}.class_weight makes {type_name(loss)} fail at pixels that are ignored, which the '
                            f'masks of {key} have ({error}): take class_weight out'
                            + (f', or set {name}.avg_non_ignore=False' if loss.get('avg_non_ignore') else ''))


def _decoded(model):
    """Yield (config key, its head's key, loss, head) of the losses of a segmentor's heads that have weights."""
    for key, head in heads(model):
        for name, loss in losses(head, key):
            weights = _read(loss.get('class_weight'))
            if weights is not None and '.loss_decode' in name and isinstance(head.get('num_classes'), int):
                yield name, key, loss, head


def _try_loss(loss, head, label=0):
    """Return the error of a loss on a drawn sample with a pixel of this label, '' where it has none."""
    classes = head.get('out_channels') or head['num_classes']
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    labels = torch.zeros(1, 3, 5, dtype=torch.long, device=device)
    labels[0, 0, 0] = label
    with MODELS.switch_scope_and_registry(None) as registry:
        try:
            built = registry.build(loss).to(device)
        except Exception:  # What cannot be built is told when the model is.
            return ''
        # Some heads' losses know the value that is ignored by themselves.
        takes = inspect.signature(built.forward).parameters
        ignored = {'ignore_index': head.get('ignore_index', 255)} if {'ignore_index', 'kwargs'} & set(takes) else {}
        try:
            built(torch.zeros(1, classes, 3, 5, device=device), labels, **ignored)
        except Exception as error:  # Each loss fails in a way of its own.
            return f'{type(error).__name__}: {" ".join(str(error).split())}'
    return ''


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
