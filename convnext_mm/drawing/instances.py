"""Boxes, masks and labels of instances over an image."""
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from convnext_mm.drawing.canvas import PAPER, check_image, enlarge, enlarge_mask, line_unit, tint
from convnext_mm.drawing.colours import check_palette
from convnext_mm.drawing.labels import draw_labels
from convnext_mm.utils.errors import ArgumentValueError


class Instances(NamedTuple):
    """The instances in an image, N of them, which may be 0.

    Attributes:
        boxes (ndarray): (N, 4), x0, y0, x1, y1 in pixels of the image.
        labels (ndarray): (N,), indices of their classes.
        scores (ndarray | None): (N,), confidences; None for a ground truth.
        masks (ndarray | None): bool, (N, H, W).
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None


def check_instances(image, instances, class_names):
    """Return instances as arrays, if their lengths, labels and masks fit the image and the classes."""
    boxes, labels = np.asarray(instances.boxes, float).reshape(-1, 4), np.asarray(instances.labels, int).reshape(-1)
    for name, value in (('labels', labels), ('scores', instances.scores), ('masks', instances.masks)):
        if value is not None and len(value) != len(boxes):
            raise ArgumentValueError(f'{name} must have one entry for each of the {len(boxes)} boxes, '
                                     f'got {len(value)}')
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ArgumentValueError(f'labels must be from 0 to {len(class_names) - 1}, '
                                 f'got {labels.min()} to {labels.max()}')
    masks = None if instances.masks is None or not len(instances.masks) else np.asarray(instances.masks)
    if masks is not None and masks.shape[1:] != image.shape[:2]:
        raise ArgumentValueError(f'masks must have the size of the image, {image.shape[:2]}, got {masks.shape[1:]}')
    return Instances(boxes, labels, instances.scores, masks)


def mask_window(mask):
    """Return the rows and columns in which a mask lies, as slices.

    Work on a window alone: a photograph with a hundred instances takes too long to be gone over for each.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(lines[0], lines[-1] + 1) if lines.size else slice(0, 0) for lines in (rows, columns))


def draw_outline(canvas, mask, window, colour):
    """Draw a line around a mask that lies in a window of the canvas."""
    if not mask.size:
        return
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE,
                                offset=(int(window[1].start), int(window[0].start)))[0]
    # A pale halo keeps the outline visible where the image has the class's own colour.
    for shade, thickness in ((PAPER, 4), (tuple(map(int, colour)), 2)):
        cv2.drawContours(canvas, contours, -1, shade, max(round(thickness * line_unit(canvas)), 1), cv2.LINE_AA)


def draw_masks(canvas, masks, colours, factor):
    """Tint and outline masks, the first of them below; ``factor`` is that by which the canvas was enlarged."""
    windows, parts = [], []
    for mask in masks:
        large = enlarge_mask(mask, factor, canvas.shape[1::-1])
        windows.append(mask_window(large))
        parts.append(large[windows[-1]].copy())
    for window, part, colour in zip(windows, parts, colours):
        tint(canvas[window], part, colour)
    for window, part, colour in zip(windows, parts, colours):
        draw_outline(canvas, part, window, colour)


def draw_instances(image: np.ndarray, instances: Instances, class_names: Sequence[str],
                   palette: np.ndarray | None = None) -> np.ndarray:
    """Draw boxes, masks and labels of instances over an image; scores stand behind the names, with two digits.

    Args:
        image (ndarray): RGB, uint8, (H, W, 3).
        instances (Instances): In pixels of ``image``.
        class_names (Sequence[str]): K names.
        palette (array, optional): RGB, (K, 3). Defaults to ``drawing.palette(K)``.

    Returns:
        ndarray: The picture, enlarged as ``drawing.canvas`` says, with paper at its right where a label is wider.

    Raises:
        ArgumentValueError: Shapes, lengths or labels that do not fit each other.
    """
    image, colours = check_image(image), check_palette(palette, class_names)
    boxes, labels, scores, masks = check_instances(image, instances, class_names)
    canvas, factor = enlarge(image)
    boxes = boxes * factor
    # The largest first, so that a small instance is not painted over.
    order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind='stable')
    if masks is not None:
        draw_masks(canvas, (masks[i] for i in order), colours[labels[order]], factor)
    for i in order:
        (x0, y0, x1, y1), colour = np.round(boxes[i]).astype(int).tolist(), tuple(map(int, colours[labels[i]]))
        cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colour, max(round(2 * line_unit(canvas)), 1))
    texts = [class_names[label] if scores is None else f'{class_names[label]} {scores[i]:.2f}'
             for i, label in enumerate(labels)]
    return draw_labels(canvas, boxes.tolist(), texts, colours[labels])
