"""Check instances and whole annotation files in COCO's format for flaws."""
import math
import sys
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from convnext_mm.datasets.flaws import Flaw, shorten_value

#: Pixels by which a box or polygon may reach out of its image: annotation tools round.
TOLERANCE = 1
#: pycocotools takes hours or all memory to draw coordinates beyond this, in pixels.
FARTHEST = 1e6
#: pycocotools stores every point of a polygon's outline, five per pixel: no longer outline than this, in pixels.
LONGEST = 1e7


def _is_number(value):
    # Python's integers may be larger than any float.
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _numbers(values):
    return isinstance(values, (list, tuple)) and all(map(_is_number, values))


def check_instance(box: Any, segmentation: Any, width: int, height: int, with_mask: bool = False) -> list[Flaw]:
    """Return what is wrong with the box and the COCO segmentation of an instance.

    Args:
        box (list): x, y, width, height in pixels.
        segmentation (list | dict | None): Polygons or run lengths.
        width, height (int): Size of the image.
        with_mask (bool): Whether there must be a segmentation. Defaults to False.
    """
    flaws = []
    if not _numbers(box) or len(box) != 4:
        flaws.append(Flaw('damaged entry', f'bbox must be four finite numbers, is {shorten_value(box)}'))
    elif box[2] <= 0 or box[3] <= 0:
        flaws.append(Flaw('empty box', f'{shorten_value(box)}'))
    else:
        x, y, w, h = box
        flaws += _check_extent('box', (x, y, x + w, y + h), width, height, shorten_value(box))
    if isinstance(segmentation, dict):
        flaws += _check_runs(segmentation, width, height)
    elif segmentation:
        flaws += _check_polygons(segmentation, width, height)
    elif with_mask:
        flaws.append(Flaw('empty mask', 'it has no segmentation, and the pipeline loads masks'))
    return flaws


def _check_extent(what, extent, width, height, shown):
    left, top, right, bottom = extent
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return [Flaw(f'{what} outside', f'{shown} lies outside of {width} x {height}')]
    reach = max(-left, -top, right - width, bottom - height)
    if reach > TOLERANCE:
        return [Flaw(f'{what} outside', f'{shown} reaches {reach:g} pixels out of {width} x {height}')]
    return []


def _check_polygons(polygons, width, height):
    if not isinstance(polygons, (list, tuple)) or not all(map(_numbers, polygons)):
        return [Flaw('damaged entry', f'segmentation must be lists of finite numbers, is {shorten_value(polygons)}')]
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        lengths = shorten_value([len(polygon) for polygon in polygons])
        return [Flaw('empty polygon', f'polygons of {lengths} numbers, where six, three points, are the least')]
    if not any(map(polygon_area, polygons)):
        return [Flaw('empty polygon', f'{shorten_value(polygons)} has no area')]
    longest = max(map(outline_length, polygons))
    if longest > LONGEST:
        return [Flaw('damaged entry', f'a polygon with an outline of {longest:,.0f} pixels, where {LONGEST:,.0f} are '
                                      'the most')]
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return _check_extent('polygon', (min(xs), min(ys), max(xs), max(ys)), width, height, 'it')


def polygon_area(polygon: list) -> float:
    """Return the area in square pixels of a polygon [x0, y0, x1, y1, ...]."""
    xs, ys = polygon[::2], polygon[1::2]
    return abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1]))) / 2


def outline_length(polygon: list) -> float:
    """Return how many pixels the outline of a polygon [x0, y0, x1, y1, ...] passes through."""
    xs, ys = polygon[::2], polygon[1::2]
    return sum(max(abs(x1 - x0), abs(y1 - y0)) for x0, y0, x1, y1 in zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1]))


def _check_runs(runs, width, height):
    size, counts = runs.get('size'), runs.get('counts')
    if list(size or ()) != [height, width]:
        return [Flaw('damaged mask', f'run lengths for height and width {shorten_value(size)}, the image has '
                                     f'[{height}, {width}]')]
    try:
        counts = decode_counts(counts) if isinstance(counts, str) else list(counts)
        sound = all(isinstance(n, int) and n >= 0 for n in counts) and sum(counts) == width * height
    except (TypeError, IndexError):
        sound = False
    if not sound:
        return [Flaw('damaged mask', 'run lengths without counts' if 'counts' not in runs else
                     f'run lengths {shorten_value(runs["counts"])} do not make {width} x {height} pixels')]
    return [] if any(counts[1::2]) else [Flaw('empty mask', 'its run lengths hold no pixel')]


def decode_counts(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed form.

    pycocotools decodes without checking: damaged run lengths make it read and write past the end of its memory. So
    this looks at them first.

    Raises:
        IndexError: The text ends within a number.

    Source: `cocodataset/cocoapi` ``common/maskApi.c``, ``rleFrString``.
    """
    counts: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = 32
        while more:
            character = ord(text[position]) - 48
            value |= (character & 31) << shift
            more = character & 32
            position, shift = position + 1, shift + 5
        if character & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


#: What mm reads of each entry of a COCO file, and what it must be.
FIELDS = {
    'images': dict(id='a whole number', file_name='text', width='a size', height='a size'),
    'annotations': dict(id='a whole number', image_id='a whole number', category_id='a whole number',
                        bbox='four numbers', area='a number', iscrowd='0, 1, true or false'),
    'categories': dict(id='a whole number', name='text'),
}
#: Fields that may be missing.
_OPTIONAL = ('iscrowd',)
_IS = {
    'a whole number': lambda value: _is_number(value) and value == value // 1 and abs(value) < 2 ** 63,
    '0, 1, true or false': lambda value: isinstance(value, (int, float)) and value in (0, 1),
    'text': lambda value: isinstance(value, str) and value != '',
    'a size': lambda value: _is_number(value) and 0 < value <= FARTHEST,
    'a number': _is_number,
    'four numbers': lambda value: _numbers(value) and len(value) == 4,
}


def check_coco(content: Any) -> Iterator[tuple[tuple | None, Flaw]]:
    """Yield what is wrong with a COCO file as a whole: incomplete entries, ids used twice, wrong references.

    Args:
        content: The parsed JSON.

    Yields:
        tuple: A place, (``images``, ``annotations`` or ``categories``, number in the list) or None for the file
        itself, and a ``Flaw``.
    """
    for part in FIELDS:
        entries = content.get(part, [] if part == 'annotations' else None) if isinstance(content, Mapping) else None
        if not isinstance(entries, list):
            yield None, Flaw('damaged entry', f'the file has no list {part!r}')
            return
    ids: dict[str, set] = {part: set() for part in FIELDS}
    for part in FIELDS:
        yield from _check_entries(part, content.get(part, []), ids[part])
    for number, entry in enumerate(content.get('annotations', [])):
        if _lacking(entry, FIELDS['annotations']):
            continue
        for key, part, what in (('category_id', 'categories', 'category'), ('image_id', 'images', 'image')):
            if entry[key] not in ids[part]:
                yield ('annotations', number), Flaw(f'unknown {what}', f'annotation {entry["id"]!r} is of {what} '
                                                                       f'{entry[key]!r}, which the file does not have')


def _check_entries(part, entries, ids):
    """Yield what is wrong with the entries of one list, and add the ids of the complete ones to ``ids``."""
    names = set()
    for number, entry in enumerate(entries):
        place, lacking = (part, number), _lacking(entry, FIELDS[part])
        if lacking:
            yield place, Flaw('damaged entry', f'{part}[{number}]: {lacking}')
            continue
        if entry['id'] in ids:
            yield place, Flaw('id used twice', f'{part}[{number}] has the id {entry["id"]!r} of an earlier one')
        ids.add(entry['id'])
        if part == 'categories':
            if entry['name'] in names:
                yield place, Flaw('name used twice', f'{part}[{number}] is another {entry["name"]!r}')
            names.add(entry['name'])


def _lacking(entry, fields):
    """Return in words what an entry lacks; an empty text for nothing."""
    if not isinstance(entry, Mapping):
        return f'{shorten_value(entry)} is no object'
    return ', '.join(
        f'{name} is missing' if name not in entry else f'{name} must be {what}, is {shorten_value(entry[name])}'
        for name, what in fields.items()
        if (name not in entry and name not in _OPTIONAL) or (name in entry and not _IS[what](entry[name])))


def check_reach(content: Mapping) -> str | None:
    """Return in words the first coordinate of a COCO file that would stop or exhaust the machine, or None.

    This runs before every training, so it is quick: it finds only what is no finite number, lies beyond ``FARTHEST``
    or has an outline beyond ``LONGEST``.
    """
    for entry in content.get('annotations') or ():
        segmentation = entry.get('segmentation')
        for values in [entry.get('bbox'), *(segmentation if isinstance(segmentation, list) else ())]:
            try:
                near = not values or math.isfinite(sum(values)) and max(values) < FARTHEST and min(values) > -FARTHEST
                if near and values and len(values) * (max(values) - min(values)) > LONGEST:
                    near = outline_length(values) <= LONGEST
            except TypeError:
                return f'annotation {entry.get("id")!r} has coordinates that are no numbers: {shorten_value(values)}'
            except OverflowError:
                near = False
            if not near:
                return (f'annotation {entry.get("id")!r} has coordinates beyond {FARTHEST:,.0f} pixels, or a polygon '
                        f'with an outline beyond {LONGEST:,.0f}: {shorten_value(values)}')
    return None
