"""The classes of an image, in a legend below it."""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from convnext_mm.drawing.canvas import check_image, enlarge
from convnext_mm.drawing.colours import check_palette
from convnext_mm.utils.errors import ArgumentValueError

#: How many classes a prediction shows.
SHOWN = 5


class Classes(NamedTuple):
    """Classes of an image, N of them.

    Attributes:
        labels (ndarray): (N,), their indices, the likeliest first.
        scores (ndarray | None): (N,), confidences; None for a ground truth.
    """

    labels: np.ndarray
    scores: np.ndarray | None = None


def likeliest(scores: np.ndarray) -> Classes:
    """Return the up to five likeliest of K classes, by their confidences, (K,)."""
    labels = np.argsort(-scores, kind='stable')[:SHOWN]
    return Classes(labels, scores[labels])


def draw_classes(image: np.ndarray, prediction: Classes, truth: Classes | None, class_names: Sequence[str],
                 palette: np.ndarray | None = None) -> tuple[np.ndarray, list]:
    """Return the image, enlarged as ``drawing.canvas`` says, and the entries of its legend.

    Args:
        image (ndarray): RGB, uint8, (H, W, 3).
        prediction (Classes): Of a classifier.
        truth (Classes | None): Of the data; it stands first.
        class_names (Sequence[str]): K names.
        palette (array, optional): RGB, (K, 3). Defaults to ``drawing.palette(K)``.

    Raises:
        ArgumentValueError: A label of no class.
    """
    colours, entries = check_palette(palette, class_names), []
    for classes, scores in ((truth, None), (prediction, prediction.scores)):
        for number, label in enumerate([] if classes is None else classes.labels):
            if not 0 <= label < len(class_names):
                raise ArgumentValueError(f'labels must be from 0 to {len(class_names) - 1}, got {label}')
            words = 'ground truth' if scores is None else f'{scores[number]:.2f}'
            entries.append((f'{class_names[label]} {words}', tuple(map(int, colours[label]))))
    return enlarge(check_image(image))[0], entries
