"""Names of classes on chips of their colours, which keep off each other."""
import numpy as np
from PIL import Image, ImageDraw

from convnext_mm.drawing.canvas import INK, LUMA, PAPER, font, line_unit, widen


def ink_on(colour):
    """Return black or white, whichever is readable on a colour."""
    return INK if colour @ LUMA > 150 else PAPER


def covered_area(a, b):
    """Return the area in which two boxes (x0, y0, x1, y1) meet."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def place_label(size, box, taken, canvas):
    """Return where a label covers the least of the labels before it, near its box.

    The candidates are rows above, inside and below the box, each at its left, right and middle. Among equals the
    first wins, the customary place above the upper left corner.

    Args:
        size (tuple): Width and height of the label.
        box (tuple): x0, y0, x1, y1.
        taken (list[tuple]): Boxes of the labels before it.
        canvas (tuple): Width and height of the picture.

    Returns:
        tuple: x0, y0, x1, y1, inside the canvas.
    """
    (width, height), (left, top, right, bottom) = size, box
    best = None
    for y in (top - height, top, bottom, bottom - height, top - 2 * height, bottom + height, top + height):
        for x in (left, right - width, (left + right - width) / 2):
            x, y = (min(max(v, 0), max(c - s, 0)) for v, c, s in zip((x, y), canvas, size))
            place = (x, y, x + width, y + height)
            covered = sum(covered_area(place, other) for other in taken)
            if not covered:
                return place
            if best is None or covered < best[0]:
                best = (covered, place)
    return best[1]


def draw_labels(canvas, boxes, texts, colours):
    """Return the canvas with a text at each box; the later ones move out of the way of the earlier ones."""
    unit = line_unit(canvas)
    letters, pad = font(max(round(14 * unit), 10)), max(round(3 * unit), 2)
    ascent, descent = letters.getmetrics()
    picture = Image.fromarray(widen(canvas, max((letters.getlength(text) + 2 * pad + 1 for text in texts), default=0)))
    draw = ImageDraw.Draw(picture)
    taken = []
    for box, text, colour in zip(boxes, texts, colours):
        size = (draw.textlength(text, font=letters) + 2 * pad, ascent + descent + pad)
        place = place_label(size, box, taken, picture.size)
        taken.append(place)
        draw.rectangle(place, fill=tuple(map(int, colour)))
        draw.text((place[0] + pad, place[1] + pad / 2), text, fill=ink_on(colour), font=letters)
    return np.array(picture)
