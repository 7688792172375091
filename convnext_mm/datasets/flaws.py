"""What is wrong with a file or an entry of one."""
from typing import Any, NamedTuple


class Flaw(NamedTuple):
    """Something wrong: its kind, and the particulars.

    Attributes:
        kind (str): One of a few, such as ``truncated image``; findings are counted by it.
        detail (str): What is wrong in this case.
    """

    kind: str
    detail: str


class Finding(NamedTuple):
    """A flaw and the file that has it.

    Attributes:
        file (str): Path.
        flaw (Flaw): What is wrong.
        place (tuple | None): Name of the list and number in it of the wrong entry of an annotation file. Defaults to
            None.
    """

    file: str
    flaw: Flaw
    place: tuple | None = None


def shorten_value(value: Any, most: int = 60) -> str:
    """Return a value as text, cut after ``most`` characters."""
    text = repr(value)
    return text if len(text) <= most else f'{text[:most]}...'
