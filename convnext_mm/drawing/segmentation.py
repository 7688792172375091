"""The classes of pixels over an image."""
from collections.abc import Sequence

import cv2
import numpy as np

from convnext_mm.drawing.canvas import PAPER, check_image, enlarge, enlarge_mask, line_unit, tint
from convnext_mm.drawing.colours import check_palette
from convnext_mm.utils.errors import ArgumentValueError

#: The index of pixels without a class, as in mm.
UNLABELLED = 255


def check_index_map(index_map, image, class_names, ignore_index):
    """Return an index map as an array, and the classes in it, if they and its size fit."""
    index_map = np.asarray(index_map)
    if index_map.shape != image.shape[:2]:
        raise ArgumentValueError(f'index_map must have the size of the image, {image.shape[:2]}, got {index_map.shape}')
    present = [index for index in np.unique(index_map) if index != ignore_index]
    if present and not 0 <= present[0] <= present[-1] < len(class_names):
        raise ArgumentValueError(f'index_map must hold 0 to {len(class_names) - 1} or {ignore_index}, got '
                                 f'{present[0]} to {present[-1]}')
    return index_map, present


def draw_segmentation(image: np.ndarray, index_map: np.ndarray, class_names: Sequence[str],
                      palette: np.ndarray | None = None, ignore_index: int = UNLABELLED) -> np.ndarray:
    """Lay the colours of a segmentation over an image, with a line where two regions meet.

    Args:
        image (ndarray): RGB, uint8, (H, W, 3).
        index_map (array): Integers, (H, W); from 0 to K - 1, or ``ignore_index``.
        class_names (Sequence[str]): K names.
        palette (array, optional): RGB, (K, 3). Defaults to ``drawing.palette(K)``.
        ignore_index (int): Unlabelled pixels, left without colour. Defaults to 255.

    Returns:
        ndarray: The picture, enlarged as ``drawing.canvas`` says. ``segmentation_legend`` gives its legend.

    Raises:
        ArgumentValueError: Another size than the image's, or indices out of range.
    """
    image, colours = check_image(image), check_palette(palette, class_names)
    index_map, present = check_index_map(index_map, image, class_names, ignore_index)
    canvas, factor = enlarge(image)
    regions = {index: enlarge_mask(index_map == index, factor, canvas.shape[1::-1]) for index in present}
    for index, region in regions.items():
        tint(canvas, region, colours[index])
    for region in regions.values():
        contours = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(canvas, contours, -1, PAPER, max(round(line_unit(canvas)), 1), cv2.LINE_AA)
    return canvas


def segmentation_legend(index_maps: Sequence[np.ndarray], class_names: Sequence[str],
                        palette: np.ndarray | None = None, ignore_index: int = UNLABELLED) -> list:
    """Return the name and colour of each class that occurs in one of the maps, in class order, then the unlabelled.

    Returns:
        list[tuple[str, tuple | None]]: For ``with_legend``.
    """
    colours = check_palette(palette, class_names)
    present = np.unique(np.concatenate([np.unique(index_map) for index_map in index_maps])).tolist()
    entries = [(class_names[i], tuple(map(int, colours[i]))) for i in present if i != ignore_index]
    return entries + [('unlabelled', None)] * (ignore_index in present)
