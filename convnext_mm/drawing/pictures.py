"""Pictures to judge a model by: instances and segmentations over the image, side by side with the ground truth.

Pure functions on numpy arrays; every image is RGB, uint8, (H, W, 3). Images whose longer side is below ``LONG_SIDE``
are enlarged to it first, so lines and letters are sharp on small images too.
"""
import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from convnext_mm.utils.errors import ArgumentValueError

LONG_SIDE = 640
#: RGB, chosen so that neighbours in the list are far apart in hue and lightness.
COLOURS = ((228, 40, 60), (30, 120, 240), (255, 190, 0), (20, 165, 80), (170, 60, 210), (0, 190, 215), (255, 120, 20),
           (240, 90, 180), (120, 85, 45), (150, 215, 40), (60, 60, 150), (0, 95, 105))
INK, PAPER, GREY = (34, 34, 40), (255, 255, 255), (150, 150, 156)
FILL = .55
#: Weights of R, G and B in brightness (Rec. 601).
LUMA = np.array((.299, .587, .114))


def palette(count):
    """Colours that keep classes apart.

    Args:
        count (int): Number of classes.

    Returns:
        ndarray: RGB, uint8, (count, 3); the first ``len(COLOURS)`` are hand-picked, each later one is as far as can be
        from all before it (in CIELAB, where distance is difference to the eye), neither dark, pale nor grey.
    """
    steps = np.arange(0, 256, 15, np.uint8)
    candidates = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    lightness, *hue = _lab(candidates).T
    candidates = candidates[(lightness > 30) & (lightness < 90) & (np.hypot(*hue) > 25)]
    places, colours = _lab(candidates), list(COLOURS[:count])
    nearest = np.full(len(candidates), np.inf)
    for i in range(count):
        if i >= len(COLOURS):
            colours.append(candidates[nearest.argmax()])
        nearest = np.minimum(nearest, np.linalg.norm(places - _lab(colours[i]), axis=1))
    return np.array(colours, np.uint8).reshape(-1, 3)


def _lab(colours):
    return cv2.cvtColor(np.float32(colours).reshape(1, -1, 3) / 255, cv2.COLOR_RGB2LAB)[0]


@cache
def _font(size, bold=False):
    # DejaVu comes with matplotlib, which mmengine needs; pillow's own font lacks accents. The file is found without
    # importing matplotlib, which takes a second.
    package = Path(importlib.util.find_spec('matplotlib').origin).parent
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(package / 'mpl-data' / 'fonts' / 'ttf' / name), size)


def _check_image(image):
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ArgumentValueError(f'image must be uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}')
    return image


def _check_palette(colours, class_names):
    colours = palette(len(class_names)) if colours is None else np.asarray(colours, np.uint8)
    if colours.shape != (len(class_names), 3):
        raise ArgumentValueError(f'palette must have one RGB colour for each of the {len(class_names)} class_names, '
                                 f'got shape {colours.shape}')
    return colours


def _enlarge(image):
    """The image with its longer side at ``LONG_SIDE`` or more, and the factor."""
    height, width = image.shape[:2]
    factor = max(1., LONG_SIDE / max(height, width))
    if factor == 1:
        return image.copy(), factor
    size = (round(width * factor), round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), factor


def _enlarge_mask(mask, factor, size):
    """A mask at another (width, height), ``factor`` times as large, with smooth edges in place of stairs."""
    if factor == 1:
        return np.asarray(mask, bool)
    mask = cv2.resize(np.asarray(mask, np.float32), size, interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(mask, (0, 0), .5 * factor) >= .5


def _window(mask):
    """Rows and columns in which a mask lies: a photograph with a hundred instances is not to be gone over for each."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(lines[0], lines[-1] + 1) if lines.size else slice(0, 0) for lines in (rows, columns))


def _tint(canvas, region, colour):
    """Fill a region with a colour over the grey of the image: its own hue would make another class's colour of it."""
    grey = canvas[region] @ LUMA
    canvas[region] = (1 - FILL) * grey[:, None] + FILL * colour


def _unit(image):
    """Thickness unit of lines and letters: 1 at ``LONG_SIDE``, growing with the image."""
    return max(image.shape[:2]) / LONG_SIDE


def _ink_on(colour):
    """Black or white, whichever is readable on a colour."""
    return INK if colour @ LUMA > 150 else PAPER


def _overlap(a, b):
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _place_label(size, box, taken, canvas):
    """Where a label of (width, height) covers the least of the labels before it, near its box (x0, y0, x1, y1).

    The candidates are rows above, inside and below the box, each at its left, right and middle; among equals the
    first wins, the customary place above the upper left corner. Returns a box inside the canvas (width, height).
    """
    (width, height), (left, top, right, bottom) = size, box
    best = None
    for y in (top - height, top, bottom, bottom - height, top - 2 * height, bottom + height, top + height):
        for x in (left, right - width, (left + right - width) / 2):
            x, y = (min(max(v, 0), max(c - s, 0)) for v, c, s in zip((x, y), canvas, size))
            place = (x, y, x + width, y + height)
            covered = sum(_overlap(place, other) for other in taken)
            if not covered:
                return place
            if best is None or covered < best[0]:
                best = (covered, place)
    return best[1]


def _widen(picture, width):
    """A picture with paper at its right where it is narrower than a text."""
    missing = max(int(np.ceil(width)) - picture.shape[1], 0)
    return np.hstack([picture, np.full((picture.shape[0], missing, 3), PAPER, np.uint8)]) if missing else picture


def _draw_labels(canvas, boxes, texts, colours):
    """Class names on chips of their colours, the later boxes' labels moved out of the way of the earlier ones."""
    unit = _unit(canvas)
    font, pad = _font(max(round(14 * unit), 10)), max(round(3 * unit), 2)
    ascent, descent = font.getmetrics()
    picture = Image.fromarray(_widen(canvas, max((font.getlength(text) + 2 * pad + 1 for text in texts), default=0)))
    draw = ImageDraw.Draw(picture)
    taken = []
    for box, text, colour in zip(boxes, texts, colours):
        size = (draw.textlength(text, font=font) + 2 * pad, ascent + descent + pad)
        place = _place_label(size, box, taken, picture.size)
        taken.append(place)
        draw.rectangle(place, fill=tuple(map(int, colour)))
        draw.text((place[0] + pad, place[1] + pad / 2), text, fill=_ink_on(colour), font=font)
    return np.array(picture)


def _outline(canvas, mask, window, colour, unit):
    if not mask.size:
        return
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE,
                                offset=(int(window[1].start), int(window[0].start)))[0]
    # A pale halo keeps the outline visible where the image has the class's own colour.
    for shade, thickness in ((PAPER, 4), (tuple(map(int, colour)), 2)):
        cv2.drawContours(canvas, contours, -1, shade, max(round(thickness * unit), 1), cv2.LINE_AA)


def draw_instances(image, boxes, labels, class_names, scores=None, masks=None, palette=None):
    """Draw boxes, masks and labels of instances over an image.

    Args:
        image (ndarray): RGB, uint8, (H, W, 3).
        boxes (array): (N, 4), x0, y0, x1, y1 in pixels of ``image``; N may be 0.
        labels (Sequence[int]): N indices into ``class_names``.
        class_names (Sequence[str]): K names.
        scores (array, optional): N confidences, shown behind the names with two digits.
        masks (array, optional): bool, (N, H, W).
        palette (array, optional): RGB, (K, 3). Defaults to ``drawing.palette(K)``.

    Returns:
        ndarray: The picture, enlarged as the module says, with paper at its right where a label is wider.

    Raises:
        ArgumentValueError: Shapes, lengths or labels that do not fit each other.
    """
    image = _check_image(image)
    colours = _check_palette(palette, class_names)
    boxes, labels = np.asarray(boxes, float).reshape(-1, 4), np.asarray(labels, int).reshape(-1)
    for name, value in (('labels', labels), ('scores', scores), ('masks', masks)):
        if value is not None and len(value) != len(boxes):
            raise ArgumentValueError(f'{name} must have one entry for each of the {len(boxes)} boxes, '
                                     f'got {len(value)}')
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ArgumentValueError(f'labels must be from 0 to {len(class_names) - 1}, '
                                 f'got {labels.min()} to {labels.max()}')
    canvas, factor = _enlarge(image)
    size, unit = canvas.shape[1::-1], _unit(canvas)
    boxes = boxes * factor
    # The largest first, so that a small instance is not painted over.
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind='stable')
    if masks is not None and len(masks):
        masks = np.asarray(masks)
        if masks.shape[1:] != image.shape[:2]:
            raise ArgumentValueError(f'masks must have the size of the image, {image.shape[:2]}, got {masks.shape[1:]}')
        windows, parts = [], []
        for mask in masks:
            large = _enlarge_mask(mask, factor, size)
            windows.append(_window(large))
            parts.append(large[windows[-1]].copy())
        for i in order:
            _tint(canvas[windows[i]], parts[i], colours[labels[i]])
        for i in order:
            _outline(canvas, parts[i], windows[i], colours[labels[i]], unit)
    for i in order:
        (x0, y0, x1, y1), colour = np.round(boxes[i]).astype(int).tolist(), tuple(map(int, colours[labels[i]]))
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colour, max(round(2 * unit), 1))
    texts = [class_names[label] if scores is None else f'{class_names[label]} {scores[i]:.2f}'
             for i, label in enumerate(labels)]
    return _draw_labels(canvas, boxes.tolist(), texts, colours[labels])


def draw_segmentation(image, index_map, class_names, palette=None, ignore_index=255):
    """Lay the colours of a segmentation over an image, with a line where two regions meet.

    Args:
        image (ndarray): RGB, uint8, (H, W, 3).
        index_map (array): Integers, (H, W); from 0 to K - 1, or ``ignore_index``.
        class_names (Sequence[str]): K names.
        palette (array, optional): RGB, (K, 3). Defaults to ``drawing.palette(K)``.
        ignore_index (int): Unlabelled pixels, left without colour. Defaults to 255.

    Returns:
        ndarray: The picture, enlarged as the module says. ``segmentation_legend`` gives its legend.

    Raises:
        ArgumentValueError: Another size than the image's, or indices out of range.
    """
    image = _check_image(image)
    colours = _check_palette(palette, class_names)
    index_map = np.asarray(index_map)
    if index_map.shape != image.shape[:2]:
        raise ArgumentValueError(f'index_map must have the size of the image, {image.shape[:2]}, got {index_map.shape}')
    present = [index for index in np.unique(index_map) if index != ignore_index]
    if present and not 0 <= present[0] <= present[-1] < len(class_names):
        raise ArgumentValueError(f'index_map must hold 0 to {len(class_names) - 1} or {ignore_index}, got '
                                 f'{present[0]} to {present[-1]}')
    canvas, factor = _enlarge(image)
    size, unit = canvas.shape[1::-1], _unit(canvas)
    regions = {index: _enlarge_mask(index_map == index, factor, size) for index in present}
    for index, region in regions.items():
        _tint(canvas, region, colours[index])
    for region in regions.values():
        contours = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(canvas, contours, -1, PAPER, max(round(unit), 1), cv2.LINE_AA)
    return canvas


def segmentation_legend(index_maps, class_names, palette=None, ignore_index=255):
    """Name and colour of each class that occurs in one of the maps, in class order, then the unlabelled.

    Returns:
        list[tuple[str, tuple]]: For ``side_by_side``.
    """
    colours = _check_palette(palette, class_names)
    present = np.unique(np.concatenate([np.unique(index_map) for index_map in index_maps])).tolist()
    entries = [(class_names[i], tuple(map(int, colours[i]))) for i in present if i != ignore_index]
    return entries + [('unlabelled', None)] * (ignore_index in present)


def _draw_legend(entries, width, unit):
    """Swatches with names in rows that fit the width (or as wide as a name), on paper; without colour a hollow one."""
    font, side, gap = _font(max(round(14 * unit), 10)), round(16 * unit), round(8 * unit)
    width = max(width, *(int(np.ceil(3 * gap + side + font.getlength(name))) for name, _ in entries))
    places, x, y = [], gap, gap
    for name, _ in entries:
        length = side + gap + font.getlength(name)
        if x + length > width - gap and x > gap:
            x, y = gap, y + side + gap
        places.append((x, y))
        x += length + 2 * gap
    picture = Image.new('RGB', (width, y + side + gap), PAPER)
    draw = ImageDraw.Draw(picture)
    for (name, colour), (x, y) in zip(entries, places):
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=colour, outline=GREY)
        draw.text((x + side + gap, y + side / 2), name, fill=INK, font=font, anchor='lm')
    return np.array(picture)


def side_by_side(panels, titles, legend=()):
    """Join pictures of one height in a row, each under its title, with one legend below them all.

    Args:
        panels (Sequence[ndarray]): RGB, uint8, (H, W_i, 3).
        titles (Sequence[str]): As many.
        legend (Sequence[tuple[str, tuple]]): Names and RGB colours (None: hollow swatch). Defaults to none.

    Returns:
        ndarray: RGB, uint8.

    Raises:
        ArgumentValueError: No panels, unlike heights, or another number of titles.
    """
    panels = [_check_image(panel) for panel in panels]
    if not panels or len(titles) != len(panels) or len({panel.shape[0] for panel in panels}) != 1:
        raise ArgumentValueError('panels must be of one height and have a title each, got heights '
                                 f'{[panel.shape[0] for panel in panels]} and {len(titles)} titles')
    unit = max(_unit(panel) for panel in panels)
    gap, head, height = round(10 * unit), round(34 * unit), panels[0].shape[0]
    width = sum(panel.shape[1] for panel in panels) + gap * (len(panels) + 1)
    picture = Image.new('RGB', (width, head + height + gap), PAPER)
    draw, x = ImageDraw.Draw(picture), gap
    for panel, title in zip(panels, titles):
        draw.text((x, head / 2), title, fill=INK, font=_font(max(round(16 * unit), 10), bold=True), anchor='lm')
        picture.paste(Image.fromarray(panel), (x, head))
        x += panel.shape[1] + gap
    return with_legend(np.array(picture), legend, unit)


def with_legend(picture, entries, unit=None):
    """A picture with a legend below it.

    Args:
        picture (ndarray): RGB, uint8, (H, W, 3).
        entries (Sequence[tuple[str, tuple]]): Names and RGB colours (None: hollow swatch); none leave it as it is.
        unit (float, optional): Size of the letters, 1 at ``LONG_SIDE``. Defaults to what fits the picture.

    Returns:
        ndarray: RGB, uint8.
    """
    picture = _check_image(picture)
    if not entries:
        return picture
    legend = _draw_legend(entries, picture.shape[1], unit or _unit(picture))
    return np.vstack([_widen(picture, legend.shape[1]), legend])


def contact_sheet(pictures, columns=2):
    """Lay pictures out in rows of ``columns`` on paper, each at the upper left of a cell as large as the largest.

    Args:
        pictures (Sequence[ndarray]): RGB, uint8, one or more.
        columns (int): From 1. Defaults to 2.

    Returns:
        ndarray: RGB, uint8.
    """
    pictures = [_check_image(picture) for picture in pictures]
    if not pictures or columns < 1:
        raise ArgumentValueError(f'pictures and columns must be 1 or more, got {len(pictures)} and {columns}')
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    columns = min(columns, len(pictures))
    sheet = np.full((-(-len(pictures) // columns) * height, columns * width, 3), PAPER, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        sheet[y:y + picture.shape[0], x:x + picture.shape[1]] = picture
    return sheet
