"""Draw scenes of circles, squares and triangles on textured ground, the same from the same seed on every machine.

The numbers come from numpy's frozen ``RandomState`` streams and shapes are rasterised here with exact comparisons.
"""
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np

#: Classes of the instance data; category ids count from 1 in this order.
CLASSES = ('circle', 'square', 'triangle')
#: Classes of the semantic data; the index of a PNG is the position here plus 1, and 0 is unlabelled.
SEMANTIC_CLASSES = ('ground', *CLASSES)
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
    """Return noise in [0, 1) that varies over ``cell`` pixels, a random grid interpolated linearly; (H, W)."""
    grid = rng.random_sample((height // cell + 2, width // cell + 2))
    (row, down), (column, right) = (np.divmod(np.arange(n), cell) for n in (height, width))
    down, right = down[:, None] / cell, right[None] / cell
    grid = grid[row] * (1 - down) + grid[row + 1] * down
    return grid[:, column] * (1 - right) + grid[:, column + 1] * right


def _muted(rng):
    """Return a colour with little saturation, as the bright ones are for the shapes; (3,)."""
    return _uniform(rng, 60, 190) + _uniform(rng, -25, 25, 3)


def _draw_ground(rng, height, width):
    """Return a gradient with noise of three sizes and lines that are no shapes; float, (H, W, 3)."""
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
    """Return which part of each pixel a shape covers, in steps of 1/16; float, (H, W)."""
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
    """Return (coverage, full area) of a new top shape that leaves every shape visible enough; None after ten tries."""
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


def draw_scene(rng: np.random.RandomState, width: int = 192, height: int = 160) -> Scene:
    """Draw up to four shapes, partly over each other and over the image's edge, on textured ground.

    Args:
        rng (numpy.random.RandomState): Source of every choice.
        width, height (int): Size in pixels, each ``MIN_SIDE`` or more. Default to 192 and 160.

    Returns:
        Scene: Image, labels and visible parts.
    """
    canvas = _draw_ground(rng, height, width)
    labels: list[int] = []
    masks: list[tuple] = []
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


def semantic_map(scene: Scene, rng: np.random.RandomState) -> np.ndarray:
    """Return a scene's index map: 0 unlabelled, else the position in ``SEMANTIC_CLASSES`` plus 1; uint8, (H, W).

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
