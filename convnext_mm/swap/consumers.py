"""Who reads the maps of a backbone: necks and heads, known by what they declare and not by their names.

A part that reads maps declares their channels. They must be the channels that the old backbone emits, so what a part
reads is found by agreement; where nothing agrees, the swap is refused.
"""
import math
from typing import NamedTuple

from convnext_mm.swap.edits import MISSING, RefusedError, plain
from convnext_mm.swap.sources import STRUCTURE
from convnext_mm.utils.configs import type_name, walk

#: Type -> why no other backbone can stand in front of it.
REFUSED = {
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
#: Necks that work in the channels of what they read and their halves, so that their GroupNorms must divide them.
WORK_IN_INPUT_CHANNELS = ('CSPNeXtPAFPN', 'YOLOXPAFPN')
#: Necks that keep the channels of what they read.
TRANSPARENT = ('GlobalAveragePooling', 'GeneralizedMeanPooling')
_NOT_HEADS = ('data_preprocessor', 'train_cfg', 'test_cfg', 'language_model', 'text_model', 'semi_train_cfg',
              'semi_test_cfg', 'tracker', 'motion', 'reid', 'detector')
#: Heads of the semantic segmentation toolboxes: without ``in_index`` they read the last map.
_SEGMENTATION = ('decode_head', 'auxiliary_head')


class Read(NamedTuple):
    """Channels that a part declares for the maps it reads."""

    #: Path of the part in the config.
    path: tuple
    #: Name of the field.
    key: str
    #: Positions of the maps among those of the old backbone; one number for a field that holds one.
    maps: tuple | int
    #: Name of the field that holds the positions, if there is one.
    index_key: str | None = None
    #: What the part itself multiplies the field with, as mmyolo's necks do.
    scale: float = 1

    @property
    def positions(self):
        """The maps as a tuple."""
        return (self.maps,) if isinstance(self.maps, int) else self.maps


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
    parent, prefix = tuple(parent), name[:-len('backbone')]
    model = edits.get(parent)
    for path, node in walk({key: value for key, value in model.items() if not _is_apart(key)}, parent):
        if type_name(node) in REFUSED:
            raise RefusedError(STRUCTURE, f'{type_name(node)} ({_dotted(path)}) {REFUSED[type_name(node)]}')
        if isinstance(node.get('shared_head'), dict):
            raise RefusedError(STRUCTURE, 'the RoI head ends in the last stage of a ResNet, which takes the channels '
                                          f'of that ResNet alone ({_dotted(path)}.shared_head)')
    neck_path = (*parent, f'{prefix}neck')
    neck = edits.get(neck_path)
    if isinstance(neck, (list, tuple)) and neck:
        neck, neck_path = neck[0], (*neck_path, 0)
    if type_name(neck) in PYRAMID_MAKERS:
        edits.set(neck_path, None, f'{type_name(neck)} makes a pyramid of one scale; a ConvNeXt emits a pyramid')
        features = tuple(feature._replace(channels=None) for feature in features)
        neck = None
    if not isinstance(neck, dict) or type_name(neck) in TRANSPARENT:
        reads = list(_read_by_heads(model, parent, features))
    else:
        reads = list(_read_by_neck(edits, neck, neck_path, features))
        if type_name(neck) == 'JPU':
            reads += _read_past_neck(model, parent, neck, features)
    if not reads:
        raise RefusedError(STRUCTURE, f'nothing beside {_dotted(slot)} declares the channels of the maps it reads '
                                      f'({[f.channels for f in features]})')
    return reads


def _dotted(path):
    return '.'.join(map(str, path))


def _is_apart(key):
    """Whether a part of a model has nothing to do with the maps of the backbone beside it."""
    key = str(key)
    return key in _NOT_HEADS or key.startswith('teacher_') or key.endswith('backbone')


def _agree(declared, features, maps, scale=1):
    return len(declared) == len(maps) and all(
        features[i].channels is None or scale != 1 or features[i].channels == number
        for i, number in zip(maps, declared))


def _match(declared, features, where, scale=1):
    """Positions of the maps whose channels a list declares: all, the last or first ones, or all in reverse."""
    count, total = len(declared), len(features)
    for maps in (range(total - count, total), range(count), range(total - 1, -1, -1)):
        if total >= count and _agree(declared, features, maps, scale):
            return tuple(maps)
    raise RefusedError(STRUCTURE, f'{where} declares maps of {list(declared)} channels, where the backbone emits '
                                  f'{[f.channels for f in features]}')


def _read_by_neck(edits, neck, path, features):
    declared, scale = neck.get('in_channels', MISSING), neck.get('widen_factor', 1)
    where = f'{type_name(neck)} ({_dotted(path)}.in_channels)'
    if isinstance(declared, int):
        maps = len(features) - 1
        if not _agree([declared], features, [maps]):
            raise RefusedError(STRUCTURE, f'{where} declares {declared} channels, where the last map of the backbone '
                                          f'has {features[-1].channels}')
    elif isinstance(declared, (list, tuple)):
        maps = _match(declared, features, where, scale)
        start, end = neck.get('start_level', 0), neck.get('end_level', -1)
        if type_name(neck) != 'JPU' and (start > 0 or end not in (-1, len(maps) - 1)):
            maps = maps[start:None if end == -1 else end + 1]
            for key in ('start_level', 'end_level'):
                if key in neck:
                    edits.set((*path, key), 0 if key == 'start_level' else -1,
                              'only what is read is emitted, so that every parameter gets a gradient')
    else:
        raise RefusedError(STRUCTURE, f'{where} is {declared!r}; expected the channels of the maps that it reads')
    yield Read(path, 'in_channels', maps, scale=scale)


def _read_past_neck(model, parent, neck, features):
    """Heads behind a neck that hands all maps but the last on as they are."""
    for key in _SEGMENTATION:
        for path, head in _parts(model, parent, key):
            if head.get('in_index', -1) in range(len(neck['in_channels']) - 1):
                yield Read(path, 'in_channels', head['in_index'])


def _parts(model, parent, key):
    """The heads under a key that holds one or a list of them."""
    value = model.get(key)
    if isinstance(value, dict):
        yield (*parent, key), value
    for i, head in enumerate(value if isinstance(value, (list, tuple)) else ()):
        if isinstance(head, dict):
            yield (*parent, key, i), head


def _read_by_heads(model, parent, features):
    for key in _SEGMENTATION:
        for path, head in _parts(model, parent, key):
            yield from _read_by_segmentation(head, path, features)
    others = {key: value for key, value in model.items()
              if isinstance(value, dict) and key not in _SEGMENTATION and not _is_apart(key)}
    lists = [(path, node) for path, node in walk(others, parent)
             if isinstance(node.get('in_channels'), (list, tuple)) and _fits(node['in_channels'], features)]
    for path, node in lists:
        yield Read(path, 'in_channels', _match(node['in_channels'], features, _dotted(path)))
    if not lists:
        yield from _read_single(others, parent, features)


def _fits(declared, features):
    return len(declared) == len(features) and any(
        _agree(declared, features, maps) for maps in (range(len(features)), range(len(features) - 1, -1, -1)))


def _read_single(parts, parent, features):
    """Everything in detectors without a neck that declares the channels of the last map."""
    channels = features[-1].channels
    for path, node in walk(parts, parent):
        if channels is None:
            channels = node.get('in_channels') if isinstance(node.get('in_channels'), int) else None
        if channels is not None and node.get('in_channels') == channels:
            yield Read(path, 'in_channels', len(features) - 1)
        extracts = any(str(key).endswith('roi_extractor') for key in path[-2:])
        if channels is not None and extracts and node.get('out_channels') == channels:
            yield Read(path, 'out_channels', len(features) - 1)


def _read_by_segmentation(head, path, features):
    """A head that picks maps by ``in_index``, and such heads within it."""
    declared = head.get('in_channels')
    if declared is not None:
        everything = tuple(range(len(features))) if isinstance(declared, (list, tuple)) else len(features) - 1
        index = head.get('in_index', everything)
        index_key = 'in_index' if 'in_index' in head else None
        maps = index % len(features) if isinstance(index, int) else tuple(i % len(features) for i in index)
        numbers, positions = ([declared], [maps]) if isinstance(maps, int) else (declared, maps)
        if isinstance(declared, int) != isinstance(maps, int) or not _agree(numbers, features, positions):
            raise RefusedError(STRUCTURE, f'{type_name(head)} ({_dotted(path)}) declares maps {index} of {declared} '
                                          f'channels, where the backbone emits {[f.channels for f in features]}')
        if type_name(head) == 'EncHead' and not head.get('add_lateral', False):
            maps = maps[-1:]  # It takes several maps, and without lateral connections uses the last alone.
        yield Read(path, 'in_channels', maps, index_key)
        if head.get('c1_in_channels'):
            yield Read(path, 'c1_in_channels', 0)
    for child_path, child in walk(head, path):
        if child is not head and 'in_index' in child and 'in_channels' in child:
            yield from _read_by_segmentation(child, child_path, features)


def set_channels(edits, reads, channels, positions):
    """Write the new channels and positions into everything that reads the backbone, and into what follows from them.

    Args:
        edits (Edits): The config.
        reads (list[Read]): From :func:`find_reads`.
        channels (dict): Position among the old maps -> channels of the new one.
        positions (dict): Position among the old maps -> position among the new ones.
    """
    for read in reads:
        part = edits.get(read.path)
        old = plain(part[read.key])
        new = [_declare(channels[i], read.scale) for i in read.positions]
        reason = 'channels of the maps that it reads'
        if isinstance(old, int):
            edits.set((*read.path, read.key), new[0], reason)
            if part.get('num_convs') == 0 and part.get('channels') == old:
                edits.set((*read.path, 'channels'), new[0], f'{type_name(part)} has no convolution to change channels')
        else:
            edits.set((*read.path, read.key), type(old)(new), reason)
            _follow(edits, read, old, new)
            _divide(edits, read, new)
        if read.index_key:
            index = part[read.index_key]
            moved = [positions[i] for i in read.positions]
            edits.set((*read.path, read.index_key), moved[0] if isinstance(index, int) else type(index)(moved),
                      'their positions among the maps that are emitted now')


def _declare(channels, scale):
    """What to declare so that a neck that scales it, rounding up to 8, arrives at ``channels``."""
    return channels if scale == 1 else int(channels / scale)


def _follow(edits, read, old, new):
    """Necks that hand maps on with the channels they have (SSD's, mmyolo's), and the heads behind them."""
    outer = edits.get((*read.path, 'out_channels'))
    if not isinstance(outer, (list, tuple)) or list(outer[:len(old)]) != list(old):
        return
    outer, changed = plain(outer), type(outer)([*new, *outer[len(old):]])
    reason = f'{type_name(edits.get(read.path))} emits the maps that it reads with their channels'
    edits.set((*read.path, 'out_channels'), changed, reason)
    parent = read.path[:-1] if isinstance(read.path[-1], str) else read.path[:-2]
    for path, node in list(walk(edits.get(parent), parent)):
        if path[:len(read.path)] != read.path and node.get('in_channels') == outer:
            edits.set((*path, 'in_channels'), type(node['in_channels'])(changed), reason)


def _divide(edits, read, new):
    part = edits.get(read.path)
    groups = (part.get('norm_cfg') or {}).get('num_groups', 1)
    fitting = math.gcd(groups, *(channels // 2 for channels in new))
    if type_name(part) in WORK_IN_INPUT_CHANNELS and fitting != groups:
        edits.set((*read.path, 'norm_cfg', 'num_groups'), fitting,
                  f'{groups} groups do not divide the halves of {new} channels')
