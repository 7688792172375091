"""Figures of matplotlib as files."""
from pathlib import Path
from typing import Any

from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place, whole_file


def check_figure(argument: str, file: str | Path) -> None:
    """Make sure that :func:`save_figure` can write a file.

    Raises:
        UserError: It cannot be written, or its name is no PNG's; ``argument`` gave it.
    """
    check_place(argument, file)
    if Path(file).suffix.lower() != '.png':
        raise UserError(f'{argument} {str(file)!r} must end in .png: pictures are written as PNG')


def save_figure(figure: Any, file: str | Path, dpi: int = 110) -> None:
    """Write a figure into a PNG, which is replaced as a whole or not at all, and close it."""
    from matplotlib import pyplot as plt
    try:
        with whole_file(file) as temporary:
            figure.savefig(temporary, format='png', dpi=dpi)
    finally:
        plt.close(figure)
