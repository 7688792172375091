"""Figures of matplotlib as files."""
from pathlib import Path
from typing import Any

from convnext_mm.utils.files import whole_file


def save_figure(figure: Any, file: str | Path, dpi: int = 110) -> None:
    """Write a figure into a PNG, which is replaced as a whole or not at all, and close it."""
    from matplotlib import pyplot as plt
    try:
        with whole_file(file) as temporary:
            figure.savefig(temporary, format='png', dpi=dpi)
    finally:
        plt.close(figure)
