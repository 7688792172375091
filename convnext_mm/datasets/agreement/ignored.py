"""Compare the value that means "ignore" in masks, wherever a segmentor's config names it."""
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convnext_mm.datasets.agreement.parts import data_sets, evaluators, transforms
from convnext_mm.utils.configs import is_segmentor, type_name
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import shorten

#: mmseg writes this value where it leaves a class out: it cannot be set.
FIXED = 255
#: Type -> (argument, default) of what ignores a value, or pads masks with it.
LOSSES = {'DiceLoss': ('ignore_index', 255), 'TverskyLoss': ('ignore_index', 255),
          'HuasdorffDisstanceLoss': ('ignore_index', 255), 'OhemCrossEntropy': ('ignore_label', 255)}
METRICS = {'IoUMetric': ('ignore_index', 255), 'CityscapesMetric': ('ignore_index', 255)}
TRANSFORMS = {'RandomCrop': ('ignore_index', 255), 'GenerateEdge': ('ignore_index', 255),
              'RandomRotate': ('seg_pad_val', 255), 'RandomMosaic': ('seg_pad_val', 255),
              'RandomCutOut': ('seg_fill_in', None), 'BioMedical3DPad': ('seg_pad_val', 0)}
_PADS = 'Pad'


def check_ignored(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that a segmentor's data sets, heads, losses, metrics and paddings ignore one value.

    Raises:
        UserError: They do not; the message has each value with the config keys that have it.
    """
    if not is_segmentor(cfg.model) or any('Depth' in type_name(head) for _, head in heads(cfg.model)):
        # Maps of depths have no value that means "ignore".
        return
    keys: dict[int, list[str]] = {}
    for key, value in (*_of_model(cfg.model, 'train' in splits), *_of_data(cfg, splits)):
        # None is legal, and means that nothing is ignored or filled.
        if isinstance(value, int):
            keys.setdefault(value, []).append(key)
    if len(keys) > 1:
        found = '; '.join(f'{value} by {shorten(dict.fromkeys(names), 8)}' for value, names in keys.items())
        raise UserError(f'ignore_index differs: these must be one value, the one that means "ignore" in the masks: '
                        f'{found}: set all of them to it')


def check_reduced(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that ``reduce_zero_label`` is the same in each data set and in its transforms.

    Raises:
        UserError: It is not; the message has both values and keys.
    """
    if not is_segmentor(cfg.model):
        return
    for split in splits:
        for part, steps in transforms(cfg, split):
            own = part.get('reduce_zero_label')
            for key, step in steps:
                other = step.get('reduce_zero_label')
                if type_name(step) == 'LoadAnnotations' and None not in (own, other) and own != other:
                    raise UserError(f'{part.key}.reduce_zero_label is {own}, {key}.reduce_zero_label is {other}: set '
                                    'both to whether 0 means "unlabelled" in the masks')


def heads(model: Mapping) -> Iterator[tuple[str, Mapping]]:
    """Yield (config key, settings) of a segmentor's heads."""
    for name in ('decode_head', 'auxiliary_head'):
        node = model.get(name) or []
        if isinstance(node, Mapping):
            yield f'model.{name}', node
        else:
            yield from ((f'model.{name}.{i}', head) for i, head in enumerate(node))


def losses(head: Mapping, key: str) -> Iterator[tuple[str, Mapping]]:
    """Yield (config key, settings) of a head's losses."""
    for name, node in head.items():
        if str(name).startswith('loss') and isinstance(node, (Mapping, list, tuple)):
            several = not isinstance(node, Mapping)
            for i, loss in enumerate(node if several else [node]):
                if isinstance(loss, Mapping):
                    yield f'{key}.{name}.{i}' if several else f'{key}.{name}', loss


def _named(node, key, table):
    """Yield (config key, value) of the setting that the table has for a node's type."""
    kind = node.get('type')
    # Types of mmdet's that share a name have no such argument.
    if type_name(node) in table and not (isinstance(kind, str) and kind.startswith('mmdet.')):
        argument, default = table[type_name(node)]
        yield f'{key}.{argument}', node.get(argument, default)


def _of_model(model, trains):
    for key, head in heads(model):
        yield f'{key}.ignore_index', head.get('ignore_index', FIXED)
        for name, loss in losses(head, key):
            yield from _named(loss, name, LOSSES)
    padding = model.get('data_preprocessor') or {}
    # Masks are padded in training alone.
    if trains and (padding.get('size') or padding.get('size_divisor')):
        yield 'model.data_preprocessor.seg_pad_val', padding.get('seg_pad_val', FIXED)


def _of_data(cfg, splits):
    for _, part in data_sets(cfg, splits):
        # A data set's default is read by nothing; a value of the config's says what is in the masks.
        yield f'{part.key}.ignore_index', part.settings.get('ignore_index')
        if part.get('reduce_zero_label'):
            yield f'{part.key}.reduce_zero_label (always)', FIXED
        own = getattr(part.kind, 'METAINFO', {}).get('classes')
        chosen = (part.settings.get('metainfo') or {}).get('classes')
        if own and isinstance(chosen, (list, tuple)) and set(own) - set(chosen):
            yield f'{part.key}.metainfo.classes (always, for the classes left out)', FIXED
    for split in splits:
        for key, metric in evaluators(cfg, split):
            yield from _named(metric, key, METRICS)
        for _, steps in transforms(cfg, split):
            for key, step in steps:
                yield from _of_transform(step, key)


def _of_transform(step, key):
    if type_name(step) == _PADS:
        value = step.get('pad_val', 0)
        # A single number is for the image alone.
        yield f'{key}.pad_val.seg', value.get('seg', FIXED) if isinstance(value, Mapping) else FIXED
    elif type_name(step) != 'RandomCrop' or step.get('cat_max_ratio', 1) < 1:
        yield from _named(step, key, TRANSFORMS)
