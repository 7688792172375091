"""Generated data sets: circles, squares and triangles on textured ground, in COCO's and in ADE20K's format.

They let the whole chain run without a download. The pixels and annotations follow from the seed on every machine:
the numbers come from numpy's frozen ``RandomState`` streams, shapes are rasterised here with exact comparisons, and
images are lossless PNGs. Every image has a stream of its own, keyed by seed, kind, split and number, so training and
validation images never share one, and image 7 is the same in a set of 10 and in one of 1000.
"""
import json
import shutil
from math import cos, pi, sin
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError, UserError

#: Classes of the instance data; category ids count from 1 in this order.
CLASSES = ('circle', 'square', 'triangle')
#: Classes of the semantic data; the index of a PNG is the position here plus 1, and 0 is unlabelled.
SEMANTIC_CLASSES = ('ground', *CLASSES)
SPLITS = ('train', 'val')

#: Raised with every change of what is drawn, so that sets made before it are made anew.
VERSION = 1
MARKER = 'shapes.json'
MIN_SIDE = 64
#: A shape shows at least this part of itself inside the image and beside the shapes that lie over it.
MIN_VISIBLE = 0.4
SUBSAMPLES = 4
#: RGB by class; each shape departs from it by up to ``COLOUR_SPREAD`` in every channel. Colour and form both tell the
#: class, so that a small network learns it from a few hundred images.
COLOURS = ((214, 57, 57), (50, 125, 225), (240, 200, 48))
COLOUR_SPREAD = 35


class Scene(NamedTuple):
    """One drawn image.

    Attributes:
        image (ndarray): RGB, uint8, (H, W, 3).
        labels (tuple[int]): Index into ``CLASSES`` for each of the N shapes, the lowest layer first.
        masks (ndarray): Visible part of each shape, bool, (N, H, W); no pixel belongs to two.
    """

    image: np.ndarray
    labels: tuple
    masks: np.ndarray


def _uniform(rng, low, high, *shape):
    # Only uniform numbers: they are exact arithmetic, where a normal distribution goes through libm.
    return low + (high - low) * rng.random_sample(shape or None)


def _smooth_noise(rng, height, width, cell):
    """Noise in [0, 1) that varies over ``cell`` pixels: a random grid, interpolated linearly; (H, W)."""
    grid = rng.random_sample((height // cell + 2, width // cell + 2))
    (row, down), (column, right) = (np.divmod(np.arange(n), cell) for n in (height, width))
    down, right = down[:, None] / cell, right[None] / cell
    grid = grid[row] * (1 - down) + grid[row + 1] * down
    return grid[:, column] * (1 - right) + grid[:, column + 1] * right


def _muted(rng):
    """A colour with little saturation, which leaves the bright ones to the shapes; (3,)."""
    return _uniform(rng, 60, 190) + _uniform(rng, -25, 25, 3)


def _draw_ground(rng, height, width):
    """Gradient, noise of three sizes and distractor lines, none of which is a shape; float, (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    start, end = _muted(rng), _muted(rng)
    across = rng.random_sample()
    ramp = across * x / (width - 1) + (1 - across) * y / (height - 1)
    ground = start + (end - start) * ramp[..., None]
    for cell, strength in ((max(height // 5, 2), 50), (max(height // 20, 2), 20)):
        ground += strength * (_smooth_noise(rng, height, width, cell)[..., None] - .5)
    for _ in range(rng.randint(3, 8)):
        (x0, x1), (y0, y1) = _uniform(rng, 0, width, 2), _uniform(rng, 0, height, 2)
        # Squared distance from the line through both points, times the squared length between them.
        distance = ((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) ** 2
        half = _uniform(rng, .5, 1.6)
        line = distance <= half * half * ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        ground[line] = ground[line] * .3 + .7 * _muted(rng)
    return ground + _uniform(rng, -8, 8, height, width, 1)


def _coverage(kind, centre, radius, angle, height, width):
    """Part of each pixel that a shape covers, in steps of 1/16; float, (H, W)."""
    centre_x, centre_y = centre
    left, top = (max(int(c - radius) - 1, 0) for c in centre)
    right, bottom = min(int(centre_x + radius) + 2, width), min(int(centre_y + radius) + 2, height)
    offsets = (np.arange(SUBSAMPLES) + .5) / SUBSAMPLES
    x = (np.arange(left, right)[:, None] + offsets).reshape(1, -1)
    y = (np.arange(top, bottom)[:, None] + offsets).reshape(-1, 1)
    if kind == 'circle':
        inside = (x - centre_x) ** 2 + (y - centre_y) ** 2 <= radius * radius
    else:
        corners = {'square': 4, 'triangle': 3}[kind]
        # Rounded to 1/16 pixel, so that the last bit of a machine's sine cannot move an edge.
        points = [tuple(round(16 * (c + radius * f(angle + 2 * pi * k / corners))) / 16
                        for c, f in zip(centre, (cos, sin))) for k in range(corners)]
        inside = np.ones((y.size, x.size), bool)
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
            inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    coverage = np.zeros((height, width))
    coverage[top:bottom, left:right] = inside.reshape(
        bottom - top, SUBSAMPLES, right - left, SUBSAMPLES).mean(axis=(1, 3))
    return coverage


def _place_shape(rng, label, masks, height, width):
    """Coverage of a new top shape that leaves every shape visible enough, or None after ten tries."""
    short = min(height, width)
    for _ in range(10):
        radius = _uniform(rng, .1, .25) * short
        centre = [_uniform(rng, .3 * radius, side - .3 * radius) for side in (width, height)]
        coverage = _coverage(CLASSES[label], centre, radius, _uniform(rng, 0, 2 * pi), height, width)
        mask = coverage >= .5
        whole = radius * radius * (pi, 2., 1.299)[label]
        if mask.sum() >= MIN_VISIBLE * whole and all(
                (visible & ~mask).sum() >= MIN_VISIBLE * area for visible, area in masks):
            return coverage, whole
    return None


def draw_scene(rng, width=192, height=160):
    """Draw up to four shapes, partly over each other and over the image's edge, on textured ground.

    Args:
        rng (numpy.random.RandomState): Source of every choice.
        width, height (int): Size in pixels, each ``MIN_SIDE`` or more. Default to 192 and 160.

    Returns:
        Scene: Image, labels and visible parts.
    """
    canvas = _draw_ground(rng, height, width)
    labels, masks = [], []
    for _ in range(rng.randint(1, 5)):
        label = rng.randint(len(CLASSES))
        placed = _place_shape(rng, label, masks, height, width)
        if placed is None:
            continue
        coverage, whole = placed
        paint = COLOURS[label] + _uniform(rng, -COLOUR_SPREAD, COLOUR_SPREAD, 3) + 30 * (
            _smooth_noise(rng, height, width, max(height // 10, 2))[..., None] - .5)
        paint = paint + _uniform(rng, -8, 8, height, width, 1)
        canvas = canvas + (paint - canvas) * coverage[..., None]
        mask = coverage >= .5
        masks = [(visible & ~mask, area) for visible, area in masks] + [(mask, whole)]
        labels.append(label)
    image = np.floor(np.clip(canvas, 0, 255) + .5).astype(np.uint8)
    return Scene(image, tuple(labels), np.array([mask for mask, _ in masks], bool).reshape(-1, height, width))


def encode_rle(mask):
    """COCO's uncompressed run lengths of a mask, counted down the columns and starting with zeros.

    Args:
        mask (ndarray): bool, (H, W).

    Returns:
        dict: ``size`` [H, W] and ``counts`` (list[int]).
    """
    flat = mask.ravel(order='F')
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return dict(size=list(mask.shape), counts=[0, *counts] if flat[0] else counts)


def _annotation(mask):
    """Segmentation, area and box (x, y, w, h; pixel edges) of a visible part."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return dict(segmentation=encode_rle(mask), area=int(mask.sum()), bbox=[int(v) for v in box], iscrowd=0)


def _stream(seed, kind, split, number):
    return np.random.RandomState([seed, ('coco', 'ade').index(kind), SPLITS.index(split), number])


def _write_coco(folder, split, count, width, height, seed):
    images, annotations = [], []
    (folder / f'{split}2017').mkdir(parents=True)
    (folder / 'annotations').mkdir(exist_ok=True)
    for number in range(count):
        scene = draw_scene(_stream(seed, 'coco', split, number), width, height)
        image_id = SPLITS.index(split) * 1_000_000 + number + 1
        name = f'{image_id:012d}.png'
        Image.fromarray(scene.image).save(folder / f'{split}2017' / name)
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        for label, mask in zip(scene.labels, scene.masks):
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, category_id=label + 1,
                                    **_annotation(mask)))
    categories = [dict(id=i + 1, name=name, supercategory='shape') for i, name in enumerate(CLASSES)]
    content = dict(info=dict(description='drawn shapes'), images=images, annotations=annotations, categories=categories)
    (folder / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(content))


def semantic_map(scene, rng):
    """Index map of a scene: 0 unlabelled, else the position in ``SEMANTIC_CLASSES`` plus 1; uint8, (H, W).

    About half of the images have a strip at one side that nobody labelled, as ADE20K has unlabelled regions.
    """
    height, width = scene.image.shape[:2]
    index = np.ones((height, width), np.uint8)
    for label, mask in zip(scene.labels, scene.masks):
        index[mask] = label + 2
    if rng.randint(2):
        strip = int(_uniform(rng, .03, .1) * width)
        side = rng.randint(2)
        index[:, (width - strip) * side:strip + (width - strip) * side] = 0
    return index


def _write_ade(folder, split, count, width, height, seed):
    name = {'train': 'training', 'val': 'validation'}[split]
    for part in ('images', 'annotations'):
        (folder / part / name).mkdir(parents=True)
    for number in range(count):
        rng = _stream(seed, 'ade', split, number)
        scene = draw_scene(rng, width, height)
        file = f'shapes_{split}_{number + 1:08d}.png'
        Image.fromarray(scene.image).save(folder / 'images' / name / file)
        Image.fromarray(semantic_map(scene, rng)).save(folder / 'annotations' / name / file)


def _check(name, value, low, high):
    takes = f'{name} must be an integer from {low} to {high}, got {value!r}'
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentTypeError(takes)
    if not low <= value <= high:
        raise ArgumentValueError(takes)
    return int(value)


def _generate(kind, write, root, train, val, width, height, seed):
    root = Path(root).resolve()
    wanted = dict(
        kind=kind, version=VERSION, seed=_check('seed', seed, 0, 2**32 - 1), train=_check('train', train, 1, 999_999),
        val=_check('val', val, 1, 999_999), width=_check('width', width, MIN_SIDE, 4096),
        height=_check('height', height, MIN_SIDE, 4096))
    marker = root / MARKER
    if marker.is_file():
        if marker.read_text() == json.dumps(wanted):
            return False
    elif root.is_file() or root.is_dir() and any(root.iterdir()):
        raise UserError(f'root {str(root)!r} holds something other than generated shapes (it has no {MARKER}) and is '
                        'left as it is: give another folder')
    # Complete only by the rename at the end: what an interrupted run leaves lies in another folder.
    partial = root.with_name(root.name + '.partial')
    if partial.exists():
        shutil.rmtree(partial)
    for split, count in (('train', train), ('val', val)):
        write(partial, split, count, width, height, seed)
    (partial / MARKER).write_text(json.dumps(wanted))
    if root.exists():
        shutil.rmtree(root)
    partial.rename(root)
    return True


def generate_coco(root, train=200, val=40, width=192, height=160, seed=0):
    """Make the instance data set in COCO's format and layout, unless it is there already.

    ``train2017/*.png``, ``val2017/*.png`` and ``annotations/instances_{train,val}2017.json`` with segmentation (run
    lengths), area and box of the visible part of each shape.

    Args:
        root (str | Path): Folder to make. It appears whole or not at all; one made with other arguments is replaced.
        train, val (int): Numbers of images, from 1. Default to 200 and 40.
        width, height (int): Image size in pixels, from ``MIN_SIDE`` to 4096. Default to 192 and 160.
        seed (int): From 0 to 2**32 - 1. Defaults to 0.

    Returns:
        bool: Whether it was made now.

    Raises:
        ArgumentValueError, ArgumentTypeError: Naming the argument, what it got and what it takes.
        UserError: ``root`` holds something else, which is left as it is.
    """
    return _generate('coco', _write_coco, root, train, val, width, height, seed)


def generate_ade(root, train=200, val=40, width=192, height=160, seed=0):
    """Make the semantic data set in ADE20K's format and layout, unless it is there already.

    ``images/{training,validation}/*.png`` and index PNGs of the same names in ``annotations/``: 0 unlabelled, then
    ``SEMANTIC_CLASSES`` from 1, to be read with ``reduce_zero_label=True``. Images are PNGs where ADE20K has JPEGs,
    so that no decoder changes a pixel. Arguments, return value and errors as in ``generate_coco``.
    """
    return _generate('ade', _write_ade, root, train, val, width, height, seed)
