"""What the comparisons need of COCO files, kept from one parse: categories, and the names of images.

A large file takes seconds to parse and gigabytes to hold, so the checks that count its instances leave this for those
that compare it with other files.
"""
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from convnext_mm.datasets.reading import parse_json
from convnext_mm.utils.errors import UserError


class Outline(NamedTuple):
    """What a COCO file lists.

    Attributes:
        categories (list[dict]): In its order.
        images (dict): {id: file name, without folders}.
    """

    categories: list
    images: dict


_kept: dict[tuple, Outline] = {}


def keep_outline(path: str, content: Mapping) -> Outline:
    """Return the outline of a parsed COCO file, and keep it for ``read_outline``.

    Raises:
        UserError: It is no such file.
    """
    lists: dict[str, Any] = {}
    for name in ('categories', 'images'):
        lists[name] = content.get(name) if isinstance(content, Mapping) else None
        if not isinstance(lists[name], list) or not all(isinstance(entry, dict) for entry in lists[name]):
            raise UserError(f'{path} is not a COCO annotation file: its {name} are not a list of objects')
    names = {image.get('id'): os.path.basename(str(image.get('file_name'))) for image in lists['images']}
    _kept[_state(path)] = Outline(lists['categories'], names)
    return _kept[_state(path)]


def read_outline(path: str) -> Outline:
    """Return the outline of a COCO file, which is parsed only if it has changed or is not kept.

    Raises:
        UserError: It cannot be read as such a file.
    """
    if is_kept(path):
        return _kept[_state(path)]
    try:
        content = parse_json(Path(path).read_bytes())[0]
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} cannot be read as a COCO annotation file: {type(error).__name__}: {error}') from None
    return keep_outline(path, content)


def is_kept(path: str) -> bool:
    """Return whether the outline of a file, as it is now, is kept."""
    return _state(path) in _kept


def forget_outlines() -> None:
    """Free what is kept."""
    _kept.clear()


def _state(path):
    state = os.stat(path)
    return state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size
