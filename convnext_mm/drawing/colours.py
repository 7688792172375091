"""Colours of classes."""
from collections.abc import Sequence

import cv2
import numpy as np

from convnext_mm.utils.errors import ArgumentValueError

#: RGB, chosen so that neighbours in the list are far apart in hue and lightness.
COLOURS = ((228, 40, 60), (30, 120, 240), (255, 190, 0), (20, 165, 80), (170, 60, 210), (0, 190, 215), (255, 120, 20),
           (240, 90, 180), (120, 85, 45), (150, 215, 40), (60, 60, 150), (0, 95, 105))


def palette(count: int) -> np.ndarray:
    """Return colours that keep classes apart.

    The first ``len(COLOURS)`` are hand-picked. Each later one is as far as can be from all before it (in CIELAB, where
    distance is difference to the eye), and neither dark, pale nor grey.

    Args:
        count (int): Number of classes.

    Returns:
        ndarray: RGB, uint8, (count, 3).
    """
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    candidates = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    lightness, *hue = to_lab(candidates).T
    candidates = candidates[(lightness > 30) & (lightness < 90) & (np.hypot(*hue) > 25)]
    places, colours = to_lab(candidates), list(COLOURS[:count])
    nearest = np.full(len(candidates), np.inf)
    for i in range(count):
        if i >= len(COLOURS):
            colours.append(candidates[nearest.argmax()])
        nearest = np.minimum(nearest, np.linalg.norm(places - to_lab(colours[i]), axis=1))
    return np.array(colours, np.uint8).reshape(-1, 3)


def to_lab(colours) -> np.ndarray:
    """Return RGB colours from 0 to 255, (N, 3), in CIELAB."""
    return cv2.cvtColor(np.float32(colours).reshape(1, -1, 3) / 255, cv2.COLOR_RGB2LAB)[0]


def choose_palette(colours: Sequence | None, count: int) -> np.ndarray:
    """Return ``colours`` as an array where there is one for each of ``count`` classes, else :func:`palette`'s.

    A data set with classes of the user's own may keep the palette of other classes.
    """
    return np.array(colours, np.uint8) if colours is not None and len(colours) == count else palette(count)


def check_palette(colours, class_names: Sequence[str]) -> np.ndarray:
    """Return ``colours``, or :func:`palette`'s for None, as an array of one RGB colour for each class."""
    colours = palette(len(class_names)) if colours is None else np.asarray(colours, np.uint8)
    if colours.shape != (len(class_names), 3):
        raise ArgumentValueError(f'palette must have one RGB colour for each of the {len(class_names)} class_names, '
                                 f'got shape {colours.shape}')
    return colours
