"""What all pictures share: their size, the size of lines and letters, paper, fonts, tinted regions.

Every image is RGB, uint8, (H, W, 3). Images whose longer side is below ``LONG_SIDE`` are enlarged to it before anything
is drawn, so that lines and letters are sharp on small images too.
"""
import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageFont

from convnext_mm.utils.errors import ArgumentValueError

LONG_SIDE = 640
INK, PAPER, GREY = (34, 34, 40), (255, 255, 255), (150, 150, 156)
#: Share of a class's colour in a tinted region.
FILL = .55
#: Weights of R, G and B in brightness (Rec. 601).
LUMA = np.array((.299, .587, .114))


@cache
def font(size, bold=False):
    """Return DejaVu Sans in a size in pixels."""
    # DejaVu comes with matplotlib, which mmengine needs; pillow's own font lacks accents. The file is found without
    # importing matplotlib, which takes a second.
    package = Path(importlib.util.find_spec('matplotlib').origin).parent
    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(package / 'mpl-data' / 'fonts' / 'ttf' / name), size)


def check_image(image):
    """Return the image as an array, if it is one as the module says."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ArgumentValueError(f'image must be uint8 of shape (H, W, 3), got {image.dtype} of shape {image.shape}')
    return image


def line_unit(image):
    """Return the unit of thickness of lines and letters: 1 at ``LONG_SIDE``, growing with the image."""
    return max(image.shape[:2]) / LONG_SIDE


def enlarge(image):
    """Return a copy of the image with its longer side at ``LONG_SIDE`` or more, and the factor."""
    height, width = image.shape[:2]
    factor = max(1., LONG_SIDE / max(height, width))
    if factor == 1:
        return image.copy(), factor
    size = (round(width * factor), round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), factor


def enlarge_mask(mask, factor, size):
    """Return a mask in another size (width, height), ``factor`` times as large, with smooth edges, not stairs."""
    if factor == 1:
        return np.asarray(mask, bool)
    mask = cv2.resize(np.asarray(mask, np.float32), size, interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(mask, (0, 0), .5 * factor) >= .5


def tint(canvas, region, colour):
    """Fill a region with a colour over the grey of the image: the image's hue would change the class's colour."""
    grey = canvas[region] @ LUMA
    canvas[region] = (1 - FILL) * grey[:, None] + FILL * colour


def widen(picture, width):
    """Return the picture, with paper at its right where it is narrower than ``width``."""
    missing = max(int(np.ceil(width)) - picture.shape[1], 0)
    return np.hstack([picture, np.full((picture.shape[0], missing, 3), PAPER, np.uint8)]) if missing else picture
