"""Write the channels of a new backbone into the parts that read it, and into what follows from them."""
import math

from convnext_mm.swap.edits import plain
from convnext_mm.utils.configs import type_name, walk

#: Necks that work in the channels of what they read and their halves, so that their GroupNorms must divide them.
WORK_IN_INPUT_CHANNELS = ('CSPNeXtPAFPN', 'YOLOXPAFPN')


def set_channels(edits, reads, channels, positions):
    """Write new channels and positions into everything that reads the backbone, and into what follows from them.

    Args:
        edits (Edits): The config.
        reads (list[Read]): From :func:`convnext_mm.swap.consumers.find_reads`.
        channels (dict): Position among the old maps -> channels of the new one.
        positions (dict): Position among the old maps -> position among the new ones.
    """
    for read in reads:
        new = [_declare(channels[i], read.scale) for i in read.maps]
        if isinstance(edits.get(read.path)[read.key], int):
            _set_number(edits, read, new[0])
        else:
            _set_list(edits, read, new)
        if read.index_key:
            index = edits.get((*read.path, read.index_key))
            moved = [positions[i] for i in read.maps]
            edits.set((*read.path, read.index_key), moved[0] if isinstance(index, int) else type(index)(moved),
                      'their positions among the maps that are emitted now')


def _declare(channels, scale):
    """Return what to declare so that a neck that scales it, rounding up to 8, arrives at ``channels``."""
    return channels if scale == 1 else int(channels / scale)


def _set_number(edits, read, new):
    """Set a field of one number, and the channels of a head that has no convolution to change them."""
    part = edits.get(read.path)
    old = part[read.key]
    edits.set((*read.path, read.key), new, 'channels of the maps that it reads')
    if part.get('num_convs') == 0 and part.get('channels') == old:
        edits.set((*read.path, 'channels'), new, f'{type_name(part)} has no convolution to change channels')


def _set_list(edits, read, new):
    """Set a field of several numbers, what the part hands on, and the groups of its norms."""
    old = plain(edits.get((*read.path, read.key)))
    edits.set((*read.path, read.key), type(old)(new), 'channels of the maps that it reads')
    _set_handed_on(edits, read, list(old), new)
    _set_groups(edits, read, new)


def _set_handed_on(edits, read, old, new):
    """Set what a neck emits that keeps the channels it reads (SSD's, mmyolo's), and the heads behind it."""
    emitted = plain(edits.get((*read.path, 'out_channels')))
    if not isinstance(emitted, (list, tuple)) or list(emitted[:len(old)]) != old:
        return
    changed = type(emitted)([*new, *emitted[len(old):]])
    reason = f'{type_name(edits.get(read.path))} emits the maps that it reads with their channels'
    edits.set((*read.path, 'out_channels'), changed, reason)
    parent = read.path[:-1] if isinstance(read.path[-1], str) else read.path[:-2]
    for path, node in list(walk(edits.get(parent), parent)):
        if path[:len(read.path)] != read.path and node.get('in_channels') == emitted:
            edits.set((*path, 'in_channels'), type(node['in_channels'])(changed), reason)


def _set_groups(edits, read, new):
    """Set the groups of a neck's GroupNorms to a number that divides the channels they work in."""
    part = edits.get(read.path)
    groups = (part.get('norm_cfg') or {}).get('num_groups', 1)
    fitting = math.gcd(groups, *(channels // 2 for channels in new))
    if type_name(part) in WORK_IN_INPUT_CHANNELS and fitting != groups:
        edits.set((*read.path, 'norm_cfg', 'num_groups'), fitting,
                  f'{groups} groups do not divide the halves of {new} channels')
