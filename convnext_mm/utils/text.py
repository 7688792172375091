"""Plain text for logs and terminals: tables, and lists of names cut short."""
from collections.abc import Iterable, Sequence


def format_table(header: Sequence[str], rows: Iterable[Sequence], left: int = 1) -> str:
    """Return a table as text, the first ``left`` columns flush left, the others flush right.

    Args:
        header (Sequence[str]): Names of the columns.
        rows (Iterable[Sequence]): Cells, turned into text by ``str``.
        left (int): Columns flush left. Defaults to 1.

    Returns:
        str: One line for the header and one for each row.
    """
    lines = [tuple(header), *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join('  '.join(cell.ljust(width) if i < left else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def shorten(names: Iterable, most: int = 5) -> str:
    """Return names separated by commas, cut after ``most``: ``shorten('abc', 2)`` is ``a, b and 1 more``."""
    names = list(map(str, names))
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def printable(name: object) -> str:
    """Return a name as text for one line of a log: as it is, or escaped if it has line breaks or no valid letters."""
    return str(name) if str(name).isprintable() else ascii(str(name))
