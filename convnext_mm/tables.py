"""Tables of plain text, for logs and terminals."""


def format_table(header, rows):
    """Columns under a header, the first flush left, the others flush right.

    Args:
        header (Sequence[str]): Names of the columns.
        rows (Iterable[Sequence]): Cells, turned into text by ``str``.

    Returns:
        str: One line for the header and one for each row.
    """
    lines = [tuple(header), *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join('  '.join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in
                                                            zip(line[1:], widths[1:]))]).rstrip() for line in lines)
