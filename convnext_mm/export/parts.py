"""Which parts of detectors the graphs follow; a model with any other is refused, by the name of the part."""
from collections.abc import Mapping, Sequence
from typing import Any

from convnext_mm.utils.errors import UserError

#: Attributes of parts, by the part's name, that the graphs take for granted.
GRANTED: dict[str, dict] = {
    'bbox_coder': dict(clip_border=True, add_ctr_clamp=False), 'roi_layers': dict(pool_mode='avg'),
    'rpn_head': dict(use_sigmoid_cls=True)}
#: Parts that are no modules, so that ``named_modules`` does not have them.
_HIDDEN = 'bbox_coder', 'prior_generator'


def check_nms(path: str, settings: Mapping) -> None:
    """Refuse a suppression that is none of plain NMS, or has a setting that the graph does not follow.

    Raises:
        UserError: Naming it.
    """
    kind = settings.get('type', 'nms')
    if kind != 'nms':
        raise UserError(f'{path}.type={kind} cannot be exported: its scores change while boxes are suppressed; --nms '
                        'hard takes plain NMS in its place')
    for key in settings:
        if key not in ('type', 'iou_threshold', 'class_agnostic', 'split_thr'):
            raise UserError(f'{path}.{key} cannot be exported: the graph does not follow it; take it out')


def check_parts(model: Any, known: Mapping[str, Sequence[str]], granted: Mapping[str, dict] = GRANTED) -> None:
    """Refuse a detector with a part of a class, or with an attribute, that its graph does not follow.

    Args:
        model (nn.Module): The detector.
        known (Mapping): Name of a part -> classes that it may have; the model's own name is empty.
        granted (Mapping): Name of a part -> attributes that it must have.

    Raises:
        UserError: Naming the part.
    """
    for path, part in model.named_modules():
        _check_part(path, part, known, granted)
        for key in _HIDDEN:
            if hasattr(part, key):
                _check_part(f'{path}.{key}', getattr(part, key), known, granted)


def _check_part(path, part, known, granted):
    """Refuse a part of a detector that is of another class than its name may have."""
    name = next((key for key in reversed(path.split('.')) if not key.isdigit()), '')
    kind, taken = type(part).__name__, known.get(name)
    if taken is not None and kind not in (*taken, 'ModuleList'):
        where = f'model.{path}' if path else 'model.type'
        raise UserError(f'{where}={kind} cannot be exported: taken are {", ".join(taken)}; --part backbone exports the '
                        'backbone alone')
    for key, value in granted.get(name, {}).items():
        if getattr(part, key, value) != value:
            raise UserError(f'model.{path}.{key}={getattr(part, key)} cannot be exported: taken is {value}')
