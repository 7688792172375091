"""The robustness of classifiers: the test sets on disk, and the figures that follow from stored predictions.

Source: arXiv:2201.03545v2, table 8; "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
(arXiv:1903.12261) for mCE: per corruption, the error summed over the severities, divided by AlexNet's; then the mean.
"""
from collections.abc import Mapping, Sequence
from pathlib import Path

from convnext_mm.evaluation.cells import Cell, read_cell
from convnext_mm.published.robustness import published_robustness
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import shorten

SEVERITIES = 5


def find_cells(root: str | Path, names: Sequence[str] = ()) -> list[Cell]:
    """Return the cells of the sets below a folder.

    Args:
        root (str | Path): Holds a folder for each set, of the set's name.
        names (Sequence[str]): The sets, which must be there. Defaults to all that are there.

    Raises:
        UserError: A set is not there, or a part of it is missing; the message names it and its source.
    """
    known = published_robustness()['sets']
    cells = []
    for name in names or known:
        folder = Path(root, name)
        if folder.is_dir():
            cells += _cells_of(name, folder)
        elif names:
            raise UserError(f'{folder} does not exist; expected {known[name]["title"]} ({known[name]["download"]})')
    if not cells:
        raise UserError(f'{root} holds none of {", ".join(known)}; expected a folder of that name for each set')
    return cells


def _cells_of(name, folder):
    """Return the cells of a set, after a check that it is whole."""
    known = published_robustness()['sets'][name]
    if 'corruptions' not in known:
        _check_classes(folder, known)
        return [Cell(name, folder)]
    missing = [corruption for corruption in known['corruptions'] if not (folder / corruption).is_dir()]
    if missing:
        raise UserError(f'{folder} lacks {shorten(missing)}; expected a folder for each corruption of {known["title"]} '
                        f'({known["download"]})')
    cells = []
    for corruption in known['corruptions']:
        # Of ImageNet-C they are called 1 to 5; of C-bar by the strength of the corruption.
        found = sorted((path for path in (folder / corruption).iterdir() if path.is_dir() and _is_number(path.name)),
                       key=lambda path: float(path.name))
        if len(found) != SEVERITIES:
            raise UserError(f'{folder / corruption} has {len(found)} severities ({shorten(p.name for p in found)}); '
                            f'expected {SEVERITIES} folders of class folders ({known["download"]})')
        for severity, path in enumerate(found, 1):
            _check_classes(path, known)
            cells.append(Cell(name, path, corruption, severity))
    return cells


def _is_number(text):
    return text.replace('.', '', 1).isdecimal()


def class_indices(name: str) -> list[int]:
    """Return the indices among ImageNet's classes that a set has, in the order of its class folders."""
    classes = published_robustness()['sets'][name]['classes']
    return list(range(classes)) if isinstance(classes, int) else classes


def _check_classes(folder, known):
    """Raise unless a folder has one folder for each class."""
    classes = known['classes'] if isinstance(known['classes'], int) else len(known['classes'])
    found = sum(path.is_dir() for path in folder.iterdir())
    if found != classes:
        raise UserError(f'{folder} has {found} class folders; {known["title"]} has {classes} ({known["download"]})')


def absent_sets(root: str | Path) -> dict[str, str]:
    """Return the titles of the sets that are not below a folder, each with its source."""
    return {known['title']: known['download'] for name, known in published_robustness()['sets'].items()
            if not Path(root, name).is_dir()}


def read_error(folder: str | Path, cell: Cell, model: str) -> float | None:
    """Return the error of stored predictions as a fraction, or None where there are none.

    They are ``labels`` and ``predicted``, indices among ImageNet's classes, one for each image.

    Raises:
        UserError: They are of another model, or cannot be read.
    """
    def take(stored):
        labels, predicted = stored['labels'], stored['predicted']
        return sum(a != b for a, b in zip(labels, predicted, strict=True)) / len(labels)
    return read_cell(folder, cell, model, take)


# Figures.

def mean_corruption_error(errors: Mapping[str, Sequence[float]]) -> float:
    """Return the mCE, in the unit of the errors times 100: in percent where they are fractions.

    Args:
        errors (dict): Corruption of ImageNet-C -> error in each severity.
    """
    alexnet = published_robustness()['alexnet_errors']
    return 100 * sum(sum(errors[c]) / sum(alexnet[c]) for c in errors) / len(errors)


def summarise(errors: dict[Cell, float]) -> dict:
    """Return the figures of whole sets, ready for JSON.

    Args:
        errors (dict): Error of each cell, as a fraction.

    Returns:
        dict: Set -> ``metric`` and ``value`` in percent as table 8 has them; of corrupted sets also ``error``, the
        plain mean error, and ``errors``, by corruption and severity.
    """
    result = {}
    for name, known in published_robustness()['sets'].items():
        cells = sorted((cell for cell in errors if cell.dataset == name), key=lambda cell: cell.severity)
        if not cells:
            continue
        if 'corruptions' not in known:
            result[name] = dict(metric=known['metric'], value=100 * (1 - errors[cells[0]]))
            continue
        table = {c: [100 * errors[cell] for cell in cells if cell.corruption == c] for c in known['corruptions']}
        error = sum(map(sum, table.values())) / len(cells)
        value = mean_corruption_error(table) / 100 if known['metric'] == 'mCE' else error
        result[name] = dict(metric=known['metric'], value=value, error=error, errors=table)
    return result


def format_summary(summary: dict, reference: str | None) -> str:
    """Return figures as a Markdown table, beside those of a model of table 8 where one is named.

    Args:
        summary (dict): Of :func:`summarise`.
        reference (str, optional): A model of the published rows.
    """
    sets = published_robustness()['sets']
    row: dict = next((row for row in published_robustness()['rows'] if row['model'] == reference), {})
    cells = []
    for name, found in summary.items():
        known = row.get(name)
        cells.append((sets[name]['title'], found['metric'], f'{found["value"]:.1f}', '' if known is None else known,
                      f'{found["error"]:.1f}' if 'error' in found else ''))
    header = ('set', 'figure in %', 'measured', f'published, {reference}' if reference else 'published', 'plain error')
    lines = [header, ('---',) * len(header), *cells]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)
