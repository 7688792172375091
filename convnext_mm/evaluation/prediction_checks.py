"""Check where predictions go before they are made, and whether stored ones belong to a data set."""
import os
from collections.abc import Iterable
from pathlib import Path

from convnext_mm.evaluation.predictions import INDEX_FILE, PICKLES
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place
from convnext_mm.utils.installation import command
from convnext_mm.utils.text import shorten


def check_folder(argument: str, folder: str | Path) -> None:
    """Make sure that predictions can be written as a folder: it is new, empty, or holds earlier predictions.

    Raises:
        UserError: It holds something else, or cannot be written.
    """
    path = Path(folder)
    if path.is_file() or path.suffix in ('.json', *PICKLES):
        raise UserError(f'{argument} {str(folder)!r}: the predictions of a segmentor go into a folder, as index PNGs')
    if path.is_dir() and any(path.iterdir()) and not (path / INDEX_FILE).is_file():
        raise UserError(f'{argument} {str(folder)!r} holds something other than predictions (it has no {INDEX_FILE}) '
                        'and is left as it is: give another folder')
    check_place(argument, path, is_folder=True)


def check_file(argument: str, file: str | Path) -> None:
    """Make sure that a detector's predictions can be written as a file.

    Raises:
        UserError: Another ending than ``.json``, ``.pkl`` or ``.pickle``, or it cannot be written.
    """
    if Path(file).suffix not in ('.json', *PICKLES) or os.path.isdir(file):
        raise UserError(f"{argument} {str(file)!r}: the predictions of a detector go into a .json file (COCO's format, "
                        f'for {command("evaluate")}), or a .pkl file as mmdet writes it')
    check_place(argument, file)


def compare_images(path: str | Path, expected: Iterable[str], found: Iterable[str]) -> None:
    """Make sure that the images of predictions are those of a data set.

    Args:
        path (str | Path): Names the predictions in the message.
        expected (Iterable[str]): Names in the data set.
        found (Iterable[str]): Names in the predictions.

    Raises:
        UserError: Naming what is missing and what is too much.
    """
    expected, found = set(expected), set(found)
    problems = [f'{len(names)} {what} ({shorten(sorted(names))})'
                for names, what in ((expected - found, 'images of the data set are missing'),
                                    (found - expected, 'images are not in the data set')) if names]
    if problems:
        raise UserError(f"predictions {str(path)!r} are not those of the config's test_dataloader.dataset, which has "
                        f'{len(expected)} images: {" and ".join(problems)}')


def compare_categories(path: str | Path, expected: dict, found: dict) -> None:
    """Make sure that the classes of predictions are those of a data set, both given as ``{id: name}``.

    Raises:
        UserError: Naming the first that differ.
    """
    wrong = [f'{i} is {found.get(i, "missing")}, in the data set {expected.get(i, "missing")}'
             for i in sorted({*expected, *found}) if expected.get(i) != found.get(i)]
    if wrong:
        raise UserError(f"predictions {str(path)!r} are of other classes than the config's test_dataloader.dataset: "
                        f'category {shorten(wrong, 3)}')
