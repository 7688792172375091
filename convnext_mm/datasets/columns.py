"""Read the numbers of a COCO file into arrays: what every instance and image has, checked on the way."""
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from convnext_mm.datasets.annotations import check_coco
from convnext_mm.datasets.flaws import Flaw

#: Flaws of a file that mm cannot build a data set of, or builds another one of than the file says.
FATAL = ('damaged entry', 'id used twice')


class Columns(NamedTuple):
    """The numbers of a COCO file: of N annotations and M images.

    Attributes:
        boxes (ndarray): x, y, width, height; float, (N, 4).
        area (ndarray): float, (N,).
        category, image (ndarray): Ids; int64, (N,).
        crowd, ignore (ndarray): bool, (N,).
        image_ids (ndarray): int64, (M,).
        sizes (ndarray): Width and height; float, (M, 2).
    """

    boxes: np.ndarray
    area: np.ndarray
    category: np.ndarray
    image: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    image_ids: np.ndarray
    sizes: np.ndarray


def find_fatal(content: Mapping, kinds: Sequence[str] = FATAL) -> Flaw | None:
    """Return the first flaw of these kinds of a COCO file, entry by entry; None where there is none."""
    for place, flaw in check_coco(content):
        if flaw.kind in kinds and not (flaw.kind == 'id used twice' and place and place[0] == 'categories'):
            return flaw
    return None


def read_columns(content: Mapping) -> tuple[Columns | None, Flaw | None]:
    """Return the numbers of a COCO file, or the first flaw with which mm cannot use it.

    Entries are looked at one by one only where reading all of them at once finds something unusual.
    """
    images, annotations = content['images'], content.get('annotations', [])
    try:
        columns = _read(images, annotations)
        usual = _usual(columns, content, images, annotations)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        columns, usual = None, False
    flaw = None if usual else find_fatal(content)
    if columns is None and flaw is None:
        flaw = Flaw('damaged entry', 'its numbers cannot be read')
    return (None, flaw) if flaw else (columns, None)


def _numbers(entries: list, key: str, kind: type) -> np.ndarray:
    return np.fromiter(map(itemgetter(key), entries), kind, len(entries))


def _read(images, annotations):
    boxes = np.fromiter(chain.from_iterable(map(itemgetter('bbox'), annotations)), float, 4 * len(annotations))
    return Columns(
        boxes.reshape(-1, 4), _numbers(annotations, 'area', float), _numbers(annotations, 'category_id', np.int64),
        _numbers(annotations, 'image_id', np.int64),
        np.fromiter((bool(entry.get('iscrowd', False)) for entry in annotations), bool, len(annotations)),
        np.fromiter((bool(entry.get('ignore', False)) for entry in annotations), bool, len(annotations)),
        _numbers(images, 'id', np.int64),
        np.stack([_numbers(images, 'width', float), _numbers(images, 'height', float)], axis=1))


def _usual(columns, content, images, annotations):
    """Return whether every entry is complete, of the usual types, and has an id of its own."""
    def types(entries: list, key: str) -> set[Any]:
        return set(map(type, map(itemgetter(key), entries)))

    numbers = set(map(type, chain.from_iterable(map(itemgetter('bbox'), annotations))))
    numbers |= types(annotations, 'area') | types(images, 'width') | types(images, 'height')
    ids = types(content['categories'], 'id') | types(images, 'id')
    for key in ('id', 'category_id', 'image_id'):
        ids |= types(annotations, key)
    finite = all(np.isfinite(values).all() for values in (columns.boxes, columns.area, columns.sizes))
    return (numbers <= {int, float} and ids <= {int} and finite and (columns.sizes > 0).all()
            and set(map(len, map(itemgetter('bbox'), annotations))) <= {4}
            and types(annotations, 'bbox') <= {list, tuple}
            and {entry.get('iscrowd', 0) for entry in annotations} <= {0, 1}
            and types(images, 'file_name') | types(content['categories'], 'name') <= {str}
            and all(map(itemgetter('file_name'), images)) and all(map(itemgetter('name'), content['categories']))
            and all(len(set(map(itemgetter('id'), entries))) == len(entries) for entries in (images, annotations)))
