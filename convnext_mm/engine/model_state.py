"""Keep in checkpoints what modules of mmdet learn or count in plain attributes, which no state dict has."""
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np
from mmengine.model import is_model_wrapper

from convnext_mm.utils.parameters import plain_name

#: Class of a module -> its attributes that decide how it trains.
_KEPT = {
    'DynamicRoIHead': ('iou_history', 'beta_history', 'bbox_assigner.pos_iou_thr', 'bbox_assigner.neg_iou_thr',
                       'bbox_assigner.min_pos_iou', 'bbox_head.loss_bbox.beta'),
    'DropBlock': ('iter_cnt',),
    'BatchSyncRandomResize': ('_input_size',)}


def read_state(model: Any) -> dict[str, dict]:
    """Return ``{name of a module: {attribute: value}}`` of a model, in values that a safe load takes."""
    return {name: {attribute: _plain(attrgetter(attribute)(module)) for attribute in kept}
            for name, module, kept in _modules(model)}


def restore_state(model: Any, state: dict[str, dict]) -> None:
    """Give the modules of a model what :func:`read_state` returned; others stay as they are."""
    for name, module, kept in _modules(model):
        for attribute in kept:
            if attribute in state.get(name, {}):
                owner, _, last = attribute.rpartition('.')
                setattr(attrgetter(owner)(module) if owner else module, last, state[name][attribute])


def _modules(model) -> Iterator[tuple[str, Any, tuple]]:
    for name, module in (model.module if is_model_wrapper(model) else model).named_modules():
        for kind in type(module).__mro__:
            if kind.__name__ in _KEPT:
                yield plain_name(name), module, _KEPT[kind.__name__]
                break


def _plain(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value
