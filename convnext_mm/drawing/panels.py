"""Several pictures on one sheet: ground truth beside prediction, titles, legends."""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from convnext_mm.drawing.canvas import GREY, INK, PAPER, check_image, font, line_unit, widen
from convnext_mm.drawing.classification import Classes, draw_classes
from convnext_mm.drawing.instances import Instances, draw_instances
from convnext_mm.drawing.segmentation import UNLABELLED, draw_segmentation, segmentation_legend
from convnext_mm.utils.errors import ArgumentValueError


class Panels(NamedTuple):
    """The pictures of one image.

    Attributes:
        pictures (dict[str, ndarray]): By their titles; RGB, uint8, (H, W_i, 3).
        legend (list): Name and RGB colour (None: hollow swatch) of the classes; empty for instances, which carry their
            names; of a classified image, with the confidences.
    """

    pictures: dict
    legend: list


def draw_panels(image: np.ndarray, prediction: Classes | Instances | np.ndarray,
                truth: Classes | Instances | np.ndarray | None, class_names: Sequence[str],
                palette: np.ndarray | None = None) -> Panels:
    """Draw what a model predicts for an image, beside the ground truth if there is one.

    Args:
        image (ndarray): RGB, uint8, (H, W, 3).
        prediction (Classes | Instances | ndarray): What a classifier or a detector found, or a segmentor's class
            indices, (H, W).
        truth (Classes | Instances | ndarray | None): The same of the ground truth; an index of no class is drawn
            as unlabelled.
        class_names (Sequence[str]): K names.
        palette (array, optional): RGB, (K, 3). Defaults to ``drawing.palette(K)``.
    """
    if isinstance(prediction, Classes):
        picture, legend = draw_classes(image, prediction, truth if isinstance(truth, Classes) else None, class_names,
                                       palette)
        return Panels(dict(image=picture), legend)
    if isinstance(prediction, Instances):
        titled = {'ground truth': truth, 'prediction': prediction}
        return Panels({title: draw_instances(image, instances, class_names, palette)
                       for title, instances in titled.items() if isinstance(instances, Instances)}, [])
    maps = dict(prediction=prediction)
    if isinstance(truth, np.ndarray):
        known = (truth >= 0) & (truth < len(class_names))
        maps = {'ground truth': np.where(known, truth, UNLABELLED), **maps}
    legend = segmentation_legend(list(maps.values()), class_names, palette)
    if truth is not None:
        maps = dict(image=np.full_like(prediction, UNLABELLED), **maps)
    return Panels({title: draw_segmentation(image, index_map, class_names, palette)
                   for title, index_map in maps.items()}, legend)


def join_panels(panels: Panels) -> np.ndarray:
    """Return panels as one picture: side by side under their titles, a single one without title."""
    if len(panels.pictures) == 1:
        picture, = panels.pictures.values()
        return with_legend(picture, panels.legend)
    return side_by_side(list(panels.pictures.values()), list(panels.pictures), panels.legend)


def side_by_side(panels: Sequence[np.ndarray], titles: Sequence[str], legend: Sequence = ()) -> np.ndarray:
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
    panels = [check_image(panel) for panel in panels]
    if not panels or len(titles) != len(panels) or len({panel.shape[0] for panel in panels}) != 1:
        raise ArgumentValueError('panels must be of one height and have a title each, got heights '
                                 f'{[panel.shape[0] for panel in panels]} and {len(titles)} titles')
    unit = max(line_unit(panel) for panel in panels)
    gap, head, height = round(10 * unit), round(34 * unit), panels[0].shape[0]
    width = sum(panel.shape[1] for panel in panels) + gap * (len(panels) + 1)
    picture = Image.new('RGB', (width, head + height + gap), PAPER)
    draw, x = ImageDraw.Draw(picture), gap
    for panel, title in zip(panels, titles):
        draw.text((x, head / 2), title, fill=INK, font=font(max(round(16 * unit), 10), bold=True), anchor='lm')
        picture.paste(Image.fromarray(panel), (x, head))
        x += panel.shape[1] + gap
    return with_legend(np.array(picture), legend, unit)


def with_legend(picture: np.ndarray, entries: Sequence, unit: float | None = None) -> np.ndarray:
    """Return a picture with a legend below it.

    Args:
        picture (ndarray): RGB, uint8, (H, W, 3).
        entries (Sequence[tuple[str, tuple]]): Names and RGB colours (None: hollow swatch); none leave it as it is.
        unit (float, optional): Size of the letters, 1 at ``LONG_SIDE``. Defaults to what fits the picture.

    Returns:
        ndarray: RGB, uint8.
    """
    picture = check_image(picture)
    if not entries:
        return picture
    legend = draw_legend(entries, picture.shape[1], unit or line_unit(picture))
    return np.vstack([widen(picture, legend.shape[1]), legend])


def draw_legend(entries, width, unit):
    """Return swatches with names in rows that fit the width (or as wide as the longest name), on paper."""
    letters, side, gap = font(max(round(14 * unit), 10)), round(16 * unit), round(8 * unit)
    width = max(width, *(int(np.ceil(3 * gap + side + letters.getlength(name))) for name, _ in entries))
    places, x, y = [], gap, gap
    for name, _ in entries:
        length = side + gap + letters.getlength(name)
        if x + length > width - gap and x > gap:
            x, y = gap, y + side + gap
        places.append((x, y))
        x += length + 2 * gap
    picture = Image.new('RGB', (width, y + side + gap), PAPER)
    draw = ImageDraw.Draw(picture)
    for (name, colour), (x, y) in zip(entries, places):
        draw.rectangle((x, y, x + side - 1, y + side - 1), fill=colour, outline=GREY)
        draw.text((x + side + gap, y + side / 2), name, fill=INK, font=letters, anchor='lm')
    return np.array(picture)


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """Lay pictures out in rows of ``columns`` on paper, each at the upper left of a cell as large as the largest.

    Args:
        pictures (Sequence[ndarray]): RGB, uint8, one or more.
        columns (int): From 1. Defaults to 2.

    Returns:
        ndarray: RGB, uint8.
    """
    pictures = [check_image(picture) for picture in pictures]
    if not pictures or columns < 1:
        raise ArgumentValueError(f'pictures and columns must be 1 or more, got {len(pictures)} and {columns}')
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    columns = min(columns, len(pictures))
    sheet = np.full((-(-len(pictures) // columns) * height, columns * width, 3), PAPER, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        sheet[y:y + picture.shape[0], x:x + picture.shape[1]] = picture
    return sheet
