"""Read annotation files as mm reads them: JSON or lists of names, in UTF-8 without a byte order mark."""
import codecs
import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine import fileio

from convnext_mm.datasets.flaws import Flaw
from convnext_mm.utils.errors import UserError

#: What a file begins with -> Python's name of its encoding. UTF-32 comes first, as its mark begins like UTF-16's.
MARKS = {codecs.BOM_UTF32_LE: 'utf-32', codecs.BOM_UTF32_BE: 'utf-32', codecs.BOM_UTF8: 'utf-8-sig',
         codecs.BOM_UTF16_LE: 'utf-16', codecs.BOM_UTF16_BE: 'utf-16'}
NAMES = {'utf-8-sig': 'UTF-8 with a byte order mark'}


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Suspend the garbage collector, which makes parsing a large file three times as slow."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse_json(content: bytes) -> tuple[Any, Flaw | None]:
    """Return the parsed JSON, and a ``Flaw`` if it is in an encoding that mm does not read.

    Raises:
        ValueError, RecursionError: It is no JSON.
    """
    with without_collector():
        parsed = json.loads(content)
    encoding = json.detect_encoding(content)
    return parsed, None if encoding == 'utf-8' else foreign(encoding)


def foreign(encoding: str) -> Flaw:
    """Return the flaw of a file in another encoding than mm reads."""
    name = NAMES.get(encoding, encoding.upper())
    return Flaw('other encoding', f'it is in {name}, where mm reads UTF-8 without a byte order mark alone')


def text_encoding(content: bytes) -> str:
    """Return the encoding of a text file by the mark that it begins with; UTF-8 if it has none."""
    return next((encoding for mark, encoding in MARKS.items() if content.startswith(mark)), 'utf-8')


def read_classes(path: str) -> list[str]:
    """Return the names of a file with a class on each line, as mmengine reads one that ``metainfo.classes`` names.

    Raises:
        UserError: It is in another encoding.
    """
    content = Path(path).read_bytes()
    encoding = text_encoding(content)
    if encoding != 'utf-8':
        raise UserError(f'{path} (metainfo.classes): {foreign(encoding).detail}: save it so')
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f'{path} (metainfo.classes) is no text in UTF-8: {error}: save it so') from None
    return fileio.list_from_file(path)
