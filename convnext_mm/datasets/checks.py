"""What is wrong with one image, mask, annotation or annotation file: pure functions on what was read.

An image is sound if mmcv decodes it, in the way of the pipeline, and Pillow decodes it to its end where it knows the
format: versions of OpenCV differ in whether they fill up a JPEG that was cut off. Wrong pixels in a file that decodes
are nobody's to see.
"""
import io
import math
import warnings
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

#: Pixels by which a box or polygon may reach out of its image: annotation tools round.
TOLERANCE = 1
#: Coordinates beyond this, in pixels, take pycocotools hours or all memory to draw.
FARTHEST = 1e6


class Flaw(NamedTuple):
    """Something wrong: what kind, and the particulars."""

    kind: str
    detail: str


class Loader(NamedTuple):
    """How a pipeline reads its files.

    Attributes:
        color_type (str | None): mmcv's flag for images; None where a reader of another kind than mmcv's
            ``LoadImageFromFile`` reads them, so that only their presence can be judged.
        backend (str): mmcv's decoder of images. ``cv2`` and ``pillow`` turn an image as its EXIF orientation says.
        mask_backend (str): mmcv's decoder of index masks.
        with_mask (bool): Whether every instance must have a segmentation.
    """

    color_type: str | None = None
    backend: str = 'cv2'
    mask_backend: str = 'pillow'
    with_mask: bool = False


def loader_of(pipeline):
    """The ``Loader`` of a built pipeline (mmengine's ``Compose``)."""
    found = {}
    for transform in getattr(pipeline, 'transforms', ()):
        if type(transform).__name__ == 'LoadImageFromFile':
            found.update(color_type=transform.color_type, backend=transform.imdecode_backend)
        elif type(transform).__name__ == 'LoadAnnotations':
            found.update(mask_backend=transform.imdecode_backend, with_mask=getattr(transform, 'with_mask', False))
    return Loader(**found)


def check_image(content, loader, expected=None):
    """Size of an image as its pipeline sees it, and what is wrong with it.

    Args:
        content (bytes): The file.
        loader (Loader): How it is decoded.
        expected (tuple, optional): Width and height that the annotations say.

    Returns:
        tuple: (width, height) or None, and a ``Flaw`` or None.
    """
    if not content:
        return None, Flaw('unreadable image', 'the file is empty')
    if loader.color_type is None:
        return None, None
    size, error = _pillow(content, expected)
    if size and expected and sorted(size) != sorted(expected):
        # Before decoding: a damaged header may ask for any amount of memory.
        return size, _other_size(size, expected)
    if error is None:
        array, error = _mmcv(content, loader.color_type, loader.backend)
    if error is not None:
        cut = 'truncat' in error.lower() or _ends_early(content)
        return None, Flaw('truncated image' if cut else 'unreadable image', error)
    height, width = array.shape[:2]
    if expected and (width, height) != tuple(expected):
        return (width, height), _other_size((width, height), expected, turned=size != (width, height))
    return (width, height), None


def _other_size(size, expected, turned=False):
    text = '{} x {}, but its annotation says {} x {}'.format(*size, *expected)
    return Flaw('other size', text + (' (its EXIF orientation turns it when it is loaded)' if turned else ''))


def _pillow(content, expected=None):
    """Width and height by the header, and what Pillow says against an image; (None, None) if it cannot judge it."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(io.BytesIO(content)) as image:
                if expected and sorted(image.size) != sorted(expected):
                    return image.size, None
                image.load()
                return image.size, None
        except UnidentifiedImageError:
            return None, None
        except Image.DecompressionBombError as error:
            # Too large for Pillow's taste, but maybe what the data set holds.
            return None, str(error) if expected and expected[0] * expected[1] < Image.MAX_IMAGE_PIXELS else None
        except Exception as error:  # Its decoders raise nearly anything on damaged data.
            return None, f'{type(error).__name__}: {error}'


def _mmcv(content, flag, backend):
    import mmcv
    try:
        array = mmcv.imfrombytes(content, flag=flag, backend=backend)
    except Exception as error:  # As many decoders, as many kinds of errors.
        return None, f'{type(error).__name__}: {" ".join(str(error).split())}'
    return array, None if array is not None else f'{backend} cannot decode it'


def _ends_early(content):
    """Whether a JPEG or PNG lacks the mark at its end."""
    return (content.startswith(b'\xff\xd8') and not content.rstrip(b'\0').endswith(b'\xff\xd9')
            or content.startswith(b'\x89PNG') and b'IEND\xaeB`\x82' not in content)


def check_mask(content, loader, size, rule):
    """What is wrong with an index mask: a ``Flaw`` or None.

    Args:
        content (bytes): The file.
        loader (Loader): How it is decoded.
        size (tuple | None): Width and height of its image; None where they are unknown.
        rule (tuple | None): Arguments of ``values_out_of_range`` besides the values; None to let all values pass.
    """
    if not content:
        return Flaw('unreadable mask', 'the file is empty')
    error = _pillow(content)[1]
    if error is None:
        mask, error = _mmcv(content, 'unchanged', loader.mask_backend)
    if error is not None:
        return Flaw('unreadable mask', error)
    mask = mask.squeeze()
    if mask.ndim != 2:
        return Flaw('unreadable mask', f'it has the shape {mask.shape}, where a mask has one index per pixel')
    if size and mask.shape != (size[1], size[0]):
        return Flaw('other size', f'{mask.shape[1]} x {mask.shape[0]}, but its image is {size[0]} x {size[1]}')
    wrong, highest = values_out_of_range(np.unique(mask), *rule) if rule else ((), None)
    if len(wrong):
        return Flaw('value out of range', f'{_short(wrong.tolist())} in {np.isin(mask, wrong).sum()} pixels; {rule[0]} '
                                          f'classes with reduce_zero_label={rule[1]} allow at most {highest}')
    return None


def values_out_of_range(values, num_classes, reduce_zero_label, ignore_index=255):
    """Those of ``values`` (ndarray) that may not stand in a mask, and the highest that may besides "ignore"."""
    # Reduced, 0 stands for "unlabelled" and 1 to K for the classes.
    highest = num_classes if reduce_zero_label else num_classes - 1
    return values[(values > highest) & (values != ignore_index) & (values != 255)], highest


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) < math.inf


def _numbers(values):
    return isinstance(values, (list, tuple)) and all(map(_is_number, values))


def check_instance(box, segmentation, width, height, with_mask=False):
    """What is wrong with an instance's box (x, y, width, height) and COCO segmentation: a list of ``Flaw``.

    Args:
        box (list): Pixels.
        segmentation (list | dict | None): Polygons or run lengths.
        width, height (int): Of the image.
        with_mask (bool): Whether there must be a segmentation. Defaults to False.
    """
    flaws = []
    if not _numbers(box) or len(box) != 4:
        flaws.append(Flaw('damaged entry', f'bbox must be four finite numbers, is {_short(box)}'))
    elif box[2] <= 0 or box[3] <= 0:
        flaws.append(Flaw('empty box', f'{_short(box)}'))
    else:
        x, y, w, h = box
        flaws += _check_reach('box', (x, y, x + w, y + h), width, height, _short(box))
    if isinstance(segmentation, dict):
        flaws += _check_runs(segmentation, width, height)
    elif segmentation:
        flaws += _check_polygons(segmentation, width, height)
    elif with_mask:
        flaws.append(Flaw('empty mask', 'it has no segmentation, and the pipeline loads masks'))
    return flaws


def _check_reach(what, extent, width, height, shown):
    left, top, right, bottom = extent
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return [Flaw(f'{what} outside', f'{shown} lies outside of {width} x {height}')]
    reach = max(-left, -top, right - width, bottom - height)
    if reach > TOLERANCE:
        return [Flaw(f'{what} outside', f'{shown} reaches {reach:g} pixels out of {width} x {height}')]
    return []


def _check_polygons(polygons, width, height):
    if not isinstance(polygons, (list, tuple)) or not all(map(_numbers, polygons)):
        return [Flaw('damaged entry', f'segmentation must be lists of finite numbers, is {_short(polygons)}')]
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        lengths = [len(polygon) for polygon in polygons]
        return [Flaw('empty polygon', f'polygons of {_short(lengths)} numbers, where six, three points, are the least')]
    if not any(map(polygon_area, polygons)):
        return [Flaw('empty polygon', f'{_short(polygons)} has no area')]
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return _check_reach('polygon', (min(xs), min(ys), max(xs), max(ys)), width, height, 'it')


def polygon_area(polygon):
    """Area in square pixels of a polygon [x0, y0, x1, y1, ...]."""
    xs, ys = polygon[::2], polygon[1::2]
    return abs(sum(x0 * y1 - x1 * y0 for x0, y0, x1, y1 in zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1]))) / 2


def _check_runs(runs, width, height):
    size, counts = runs.get('size'), runs.get('counts')
    if list(size or ()) != [height, width]:
        return [Flaw('damaged mask', f'run lengths for height and width {_short(size)}, the image has '
                                     f'[{height}, {width}]')]
    try:
        counts = decode_counts(counts) if isinstance(counts, str) else list(counts)
        sound = all(isinstance(n, int) and n >= 0 for n in counts) and sum(counts) == width * height
    except (TypeError, IndexError):
        sound = False
    if not sound:
        return [Flaw('damaged mask', f'run lengths {_short(runs["counts"])} do not make {width} x {height} pixels'
                     if 'counts' in runs else 'run lengths without counts')]
    return [] if any(counts[1::2]) else [Flaw('empty mask', 'its run lengths hold no pixel')]


def decode_counts(text):
    """Run lengths of COCO's compressed form, as a list of int.

    Raises:
        IndexError: The text ends within a number.

    Source: `cocodataset/cocoapi` ``common/maskApi.c``, ``rleFrString``.
    """
    counts, position = [], 0
    while position < len(text):
        value = shift = 0
        more = True
        while more:
            character = ord(text[position]) - 48
            value |= (character & 31) << shift
            more = character & 32
            position, shift = position + 1, shift + 5
        if character & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def _short(value, most=60):
    text = repr(value)
    return text if len(text) <= most else f'{text[:most]}...'


#: What mm reads of each entry of a COCO file, and what it must be.
FIELDS = {
    'images': dict(id='an id', file_name='text', width='a size', height='a size'),
    'annotations': dict(id='an id', image_id='an id', category_id='an id', bbox='four numbers', area='a number'),
    'categories': dict(id='an id', name='text'),
}
_IS = {
    'an id': lambda value: isinstance(value, (int, str)) and not isinstance(value, bool),
    'text': lambda value: isinstance(value, str) and value != '',
    'a size': lambda value: _is_number(value) and 0 < value <= FARTHEST,
    'a number': _is_number,
    'four numbers': lambda value: _numbers(value) and len(value) == 4,
}


def check_coco(content):
    """What is wrong with a COCO file as a whole: entries that lack something, ids, references.

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
    ids = {}
    for part, fields in FIELDS.items():
        ids[part], names = set(), set()
        for number, entry in enumerate(content.get(part, [])):
            place, lacking = (part, number), _lacking(entry, fields)
            if lacking:
                yield place, Flaw('damaged entry', f'{part}[{number}]: {lacking}')
                continue
            if entry['id'] in ids[part]:
                yield place, Flaw('id used twice', f'{part}[{number}] has the id {entry["id"]!r} of an earlier one')
            ids[part].add(entry['id'])
            if part == 'categories':
                if entry['name'] in names:
                    yield place, Flaw('name used twice', f'{part}[{number}] is another {entry["name"]!r}')
                names.add(entry['name'])
    for number, entry in enumerate(content.get('annotations', [])):
        if _lacking(entry, FIELDS['annotations']):
            continue
        for key, part, what in (('category_id', 'categories', 'category'), ('image_id', 'images', 'image')):
            if entry[key] not in ids[part]:
                yield ('annotations', number), Flaw(f'unknown {what}', f'annotation {entry["id"]!r} is of {what} '
                                                                       f'{entry[key]!r}, which the file does not have')


def _lacking(entry, fields):
    """What an entry lacks, in words; '' for nothing."""
    if not isinstance(entry, Mapping):
        return f'{_short(entry)} is no object'
    return ', '.join(f'{name} is missing' if name not in entry else f'{name} must be {what}, is {_short(entry[name])}'
                     for name, what in fields.items()
                     if name not in entry or not _IS[what](entry[name]))


def check_reach(content):
    """The first number of a COCO file that would stop or exhaust the machine that draws it: text, or None.

    Quick, as it is done before every training: only what is no finite number or beyond ``FARTHEST`` counts.
    """
    for entry in content.get('annotations') or ():
        segmentation = entry.get('segmentation')
        for values in [entry.get('bbox'), *(segmentation if isinstance(segmentation, list) else ())]:
            try:
                near = not values or math.isfinite(sum(values)) and max(values) < FARTHEST and min(values) > -FARTHEST
            except TypeError:
                return f'annotation {entry.get("id")!r} has coordinates that are no numbers: {_short(values)}'
            except OverflowError:
                near = False
            if not near:
                return f'annotation {entry.get("id")!r} has coordinates beyond {FARTHEST:,.0f} pixels: {_short(values)}'
    return None
