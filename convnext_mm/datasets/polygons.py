"""Clip polygons in COCO's format, [x0, y0, x1, y1, ...] in pixels, at the edge of an image."""
from collections.abc import Callable
from typing import Any

import numpy as np

from convnext_mm.datasets.annotations import polygon_area
from convnext_mm.utils.errors import UserError


def clip_polygon(polygon: list, width: float, height: float) -> list[list]:
    """Return the parts of a polygon inside of an image: one, several or none.

    A polygon within the image stays as it is. One that crosses itself covers what pycocotools fills: the points that
    its outline goes round an odd number of times.

    Raises:
        UserError: shapely is not installed.
    """
    try:
        import shapely
    except ImportError as error:
        raise UserError(f'polygons are cut off at the edge of an image with shapely ({error}): pip install shapely')
    points = np.reshape(np.asarray(polygon, float), (-1, 2))
    if (points >= 0).all() and (points <= (width, height)).all():
        parts = [polygon]
    else:
        # Far points may overflow on the way; what they leave in the image is finite.
        with np.errstate(over='ignore', invalid='ignore'):
            whole = shapely.make_valid(shapely.Polygon(points))
            inside = whole.intersection(shapely.box(0, 0, width, height))
        parts = [np.ravel(part.exterior.coords[:-1]).tolist() for part in _without_holes(inside, shapely.box)]
    return [part for part in parts if polygon_area(part)]


def _without_holes(shape: Any, box: Callable) -> list:
    """Return the polygons of a shape of shapely's. Those with holes, which COCO's format lacks, are cut through them.

    Args:
        shape (shapely.Geometry): A polygon, or a collection of shapes.
        box (Callable): shapely's.
    """
    if hasattr(shape, 'geoms'):
        return [polygon for part in shape.geoms for polygon in _without_holes(part, box)]
    if shape.geom_type != 'Polygon':
        return []
    if not shape.interiors:
        return [shape]
    left, top, right, bottom = shape.bounds
    middle = shape.interiors[0].centroid.x
    return [polygon for half in (box(left, top, middle, bottom), box(middle, top, right, bottom))
            for polygon in _without_holes(shape.intersection(half), box)]
