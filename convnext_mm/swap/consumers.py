"""Find the necks and heads that read the maps of a backbone, by the channels that they declare.

A part that reads maps declares their channels. They must be the channels that the old backbone emits, so what a part
reads is found by agreement; where nothing agrees, the swap is refused.
"""
from typing import NamedTuple

from convnext_mm.swap.edits import MISSING, dotted
from convnext_mm.swap.errors import STRUCTURE, RefusedError
from convnext_mm.utils.configs import type_name, walk

#: Type of a part -> why it works behind its own backbone only.
DEPENDENT_PARTS = {
    **dict.fromkeys(('SETRUPHead', 'SETRMLAHead', 'MLANeck'),
                    'reads maps of one stride from several depths of a plain transformer; a ConvNeXt has one a stride'),
    'DPTHead': 'reads the class token of a plain transformer beside its maps',
    'LRASPPHead': 'reads the stem of MobileNetV3 at stride 2; a ConvNeXt starts at stride 4',
    'RFP': 'feeds its maps back into the blocks of a DetectoRS ResNet, which it holds a second time',
    'NASFCOS_FPN': 'takes four maps by their positions and reads three, so an output norm would get no gradient',
    'ReFPN': 'takes apart rotation-equivariant maps by orientation',
}
#: Necks that make a pyramid of the single scale of a plain transformer.
PYRAMID_MAKERS = ('MultiLevelNeck', 'Feature2Pyramid')
#: Necks that keep the channels of what they read.
TRANSPARENT = ('GlobalAveragePooling', 'GeneralizedMeanPooling')
#: Keys of a model whose parts read no maps of the backbone beside them.
_NOT_HEADS = ('data_preprocessor', 'train_cfg', 'test_cfg', 'language_model', 'text_model', 'semi_train_cfg',
              'semi_test_cfg', 'tracker', 'motion', 'reid', 'detector')
#: Heads of the semantic segmentation toolboxes: without ``in_index`` they read the last map.
_SEGMENTATION = ('decode_head', 'auxiliary_head')


class Read(NamedTuple):
    """Channels that a part declares for the maps it reads."""

    #: Path of the part in the config.
    path: tuple
    #: Name of the field, which holds a number or a list of them.
    key: str
    #: Positions of the maps among those of the old backbone.
    maps: tuple
    #: Name of the field that holds the positions, if there is one.
    index_key: str | None = None
    #: What the part itself multiplies the field with, as mmyolo's necks do.
    scale: float = 1


def find_reads(edits, slot, features):
    """Find what reads the maps of a backbone, and take out what only a plain transformer needs.

    Args:
        edits (Edits): The config.
        slot (tuple): Path of the backbone.
        features (tuple[Feature]): What it emits.

    Returns:
        list[Read]: At least one.

    Raises:
        RefusedError: A part depends on the old backbone, or does not declare what it emits.
    """
    *parent, name = slot
    parent = tuple(parent)
    model = edits.get(parent)
    _refuse_dependent_parts(model, parent)
    path, neck = _find_neck(edits, (*parent, f'{name.removesuffix("backbone")}neck'))
    if type_name(neck) in PYRAMID_MAKERS:
        edits.set(path, None, f'{type_name(neck)} makes a pyramid of one scale; a ConvNeXt emits a pyramid')
        # The heads declare the channels of the neck that is gone.
        features = tuple(feature._replace(channels=None) for feature in features)
        neck = None
    if not isinstance(neck, dict) or type_name(neck) in TRANSPARENT:
        reads = list(_read_by_heads(model, parent, features))
    else:
        reads = [_read_by_neck(edits, neck, path, features)]
        if type_name(neck) == 'JPU':
            reads += _read_past_neck(model, parent, neck)
    if not reads:
        raise RefusedError(STRUCTURE, f'nothing beside {dotted(slot)} declares the channels of the maps it reads '
                                      f'({_channels(features)})')
    return reads


def _refuse_dependent_parts(model, parent):
    """Raise a ``RefusedError`` for a part that no other backbone can stand in front of."""
    for path, node in walk({key: value for key, value in model.items() if not _is_apart(key)}, parent):
        if type_name(node) in DEPENDENT_PARTS:
            raise RefusedError(STRUCTURE, f'{type_name(node)} ({dotted(path)}) {DEPENDENT_PARTS[type_name(node)]}')
        if isinstance(node.get('shared_head'), dict):
            raise RefusedError(STRUCTURE, 'the RoI head ends in the last stage of a ResNet, which takes the channels '
                                          f'of that ResNet alone ({dotted(path)}.shared_head)')


def _is_apart(key):
    """Return whether a part of a model has nothing to do with the maps of the backbone beside it."""
    key = str(key)
    return key in _NOT_HEADS or key.startswith('teacher_') or key.endswith('backbone')


def _find_neck(edits, path):
    """Return the path and the settings of the neck at ``path``, of the first one if there are several."""
    neck = edits.get(path)
    return ((*path, 0), neck[0]) if isinstance(neck, (list, tuple)) and neck else (path, neck)


def _channels(features):
    return [feature.channels for feature in features]


def _agree(declared, features, maps):
    """Return whether the maps at these positions have the declared channels, as far as those are known."""
    return len(declared) == len(maps) and all(
        features[i].channels in (None, number) for i, number in zip(maps, declared))


def _match(declared, features, where, scale=1):
    """Return the positions of the maps whose channels a list declares: all, the last, the first, or all in reverse."""
    count, total = len(declared), len(features)
    # Numbers that the part scales cannot be compared.
    known = features if scale == 1 else [feature._replace(channels=None) for feature in features]
    for maps in (range(total - count, total), range(count), range(total - 1, -1, -1)):
        if total >= count and _agree(declared, known, maps):
            return tuple(maps)
    raise RefusedError(STRUCTURE, f'{where} declares maps of {list(declared)} channels, where the backbone emits '
                                  f'{_channels(features)}')


def _read_by_neck(edits, neck, path, features):
    """Return what a neck reads."""
    declared, scale = neck.get('in_channels', MISSING), neck.get('widen_factor', 1)
    where = f'{type_name(neck)} ({dotted(path)}.in_channels)'
    if isinstance(declared, int):
        if not _agree([declared], features[-1:], [0]):
            raise RefusedError(STRUCTURE, f'{where} declares {declared} channels, where the last map of the backbone '
                                          f'has {features[-1].channels}')
        maps = (len(features) - 1,)
    elif isinstance(declared, (list, tuple)):
        maps = _match(declared, features, where, scale)
        if type_name(neck) != 'JPU':
            maps = _drop_unread_levels(edits, neck, path, maps)
    else:
        raise RefusedError(STRUCTURE, f'{where} is {declared!r}; expected the channels of the maps that it reads')
    return Read(path, 'in_channels', maps, scale=scale)


def _drop_unread_levels(edits, neck, path, maps):
    """Return the maps from ``start_level`` to ``end_level`` of a neck, and let it start and end with them."""
    start, end = neck.get('start_level', 0), neck.get('end_level', -1)
    if start <= 0 and end in (-1, len(maps) - 1):
        return maps
    for key, value in (('start_level', 0), ('end_level', -1)):
        if key in neck:
            edits.set((*path, key), value, 'only what is read is emitted, so that every parameter gets a gradient')
    return maps[start:None if end == -1 else end + 1]


def _read_past_neck(model, parent, neck):
    """Yield what heads read through a neck that hands on all maps but the last as they are."""
    for key in _SEGMENTATION:
        for path, head in _parts(model, parent, key):
            if head.get('in_index', -1) in range(len(neck['in_channels']) - 1):
                yield Read(path, 'in_channels', (head['in_index'],))


def _parts(model, parent, key):
    """Yield path and settings of the heads under a key that holds one or a list of them."""
    value = model.get(key)
    if isinstance(value, dict):
        yield (*parent, key), value
    for i, head in enumerate(value if isinstance(value, (list, tuple)) else ()):
        if isinstance(head, dict):
            yield (*parent, key, i), head


def _read_by_heads(model, parent, features):
    """Yield what heads read that stand right behind the backbone."""
    for key in _SEGMENTATION:
        for path, head in _parts(model, parent, key):
            yield from _read_by_segmentation(head, path, features)
    others = {key: value for key, value in model.items()
              if isinstance(value, dict) and key not in _SEGMENTATION and not _is_apart(key)}
    lists = [(path, node) for path, node in walk(others, parent)
             if isinstance(node.get('in_channels'), (list, tuple)) and _fits(node['in_channels'], features)]
    for path, node in lists:
        yield Read(path, 'in_channels', _match(node['in_channels'], features, dotted(path)))
    if not lists:
        yield from _read_single(others, parent, features)


def _fits(declared, features):
    """Return whether a list declares all maps, in order or in reverse."""
    return _agree(declared, features, range(len(features))) or _agree(declared, features[::-1], range(len(features)))


def _read_single(parts, parent, features):
    """Yield everything in a detector without a neck that declares the channels of the last map."""
    channels, last = features[-1].channels, (len(features) - 1,)
    for path, node in walk(parts, parent):
        if channels is None and isinstance(node.get('in_channels'), int):
            # Only the reader knows: what is read first.
            channels = node['in_channels']
        if channels is None:
            continue
        if node.get('in_channels') == channels:
            yield Read(path, 'in_channels', last)
        if node.get('out_channels') == channels and any(str(key).endswith('roi_extractor') for key in path[-2:]):
            yield Read(path, 'out_channels', last)


def _read_by_segmentation(head, path, features):
    """Yield what a head reads that picks maps by ``in_index``, and such heads within it."""
    if head.get('in_channels') is not None:
        yield Read(path, 'in_channels', _pick_maps(head, path, features), 'in_index' if 'in_index' in head else None)
        if head.get('c1_in_channels'):
            yield Read(path, 'c1_in_channels', (0,))
    for child_path, child in walk(head, path):
        if child is not head and 'in_index' in child and 'in_channels' in child:
            yield from _read_by_segmentation(child, child_path, features)


def _pick_maps(head, path, features):
    """Return the positions of the maps that a head picks by ``in_index``, after a check of their channels."""
    declared, total = head['in_channels'], len(features)
    index = head.get('in_index', total - 1 if isinstance(declared, int) else tuple(range(total)))
    numbers = [declared] if isinstance(declared, int) else declared
    maps = tuple(i % total for i in ([index] if isinstance(index, int) else index))
    if isinstance(declared, int) != isinstance(index, int) or not _agree(numbers, features, maps):
        raise RefusedError(STRUCTURE, f'{type_name(head)} ({dotted(path)}) declares maps {index} of {declared} '
                                      f'channels, where the backbone emits {_channels(features)}')
    # EncHead takes several maps, and without lateral connections uses the last alone.
    return maps[-1:] if type_name(head) == 'EncHead' and not head.get('add_lateral', False) else maps
