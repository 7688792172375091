"""Cells of a study of robustness: a set of images, or a corruption in a severity. Each is stored when it is whole."""
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import whole_file


class Cell(NamedTuple):
    """A corruption in a severity, or a whole set.

    Attributes:
        dataset (str): A key of the published sets; or the folder of cells that are made on the fly.
        folder (Path, optional): Of the images, in class folders; None where they are made on the fly.
        corruption (str): Empty where the set has none.
        severity (int): 1 to 5; 0 where the set has none.
    """

    dataset: str
    folder: Path | None = None
    corruption: str = ''
    severity: int = 0

    @property
    def name(self) -> str:
        """Return its name, such as ``imagenet-c/fog-3`` or ``imagenet-a``."""
        return f'{self.dataset}/{self.corruption}-{self.severity}' if self.corruption else self.dataset


def cell_file(folder: str | Path, cell: Cell) -> Path:
    """Return where the results of a cell are stored."""
    return Path(folder, f'{cell.name}.json')


def store_cell(folder: str | Path, cell: Cell, model: str, results: dict) -> None:
    """Write the results of a cell, ready for JSON, whole or not at all; ``model`` says which model they are of."""
    with whole_file(cell_file(folder, cell)) as temporary:
        temporary.write_text(json.dumps(dict(model=model, **results)))


def read_cell(folder: str | Path, cell: Cell, model: str, take: Callable[[dict], Any]) -> Any:
    """Return what ``take`` makes of the stored results of a cell, or None where there are none.

    Raises:
        UserError: They are of another model, or cannot be read.
    """
    file = cell_file(folder, cell)
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text())
        of = stored['model']
        if of == model:
            return take(stored)
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as fault:
        raise UserError(f'{file} holds no results ({type(fault).__name__}: {fault}); delete it') from fault
    raise UserError(f'{file} holds results of {of}, and this is {model}: give another --work-dir')
