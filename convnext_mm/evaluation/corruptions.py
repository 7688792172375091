"""The robustness of detectors and segmentors: the corruptions of ImageNet-C on the test's own images, and the figures.

Source: "Benchmarking Robustness in Object Detection: Autonomous Driving when Winter is Coming" (arXiv:1907.07484),
section 3.3: mPC is the mean over the corruptions of the mean over the severities; relative mPC is its share of the
figure on clean images.
"""
import copy
import importlib.util
import statistics
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import EVALUATOR
from mmengine.runner import Runner

from convnext_mm.evaluation.cells import Cell, read_cell
from convnext_mm.evaluation.scores import name_figure
from convnext_mm.published.robustness import published_robustness
from convnext_mm.utils.configs import leaf_datasets, type_name
from convnext_mm.utils.errors import UserError

SEVERITIES = 1, 2, 3, 4, 5
#: Corruptions and severities of a quick study: a noise, a blur, a weather.
QUICK = ('gaussian_noise', 'motion_blur', 'fog'), (2, 4)
#: Of these, the library draws by a generator that it gets; of the others, by NumPy's own.
_SEEDED = 'impulse_noise', 'glass_blur'
#: Sides of an image that can be corrupted.
SMALLEST = 32
#: Ends of figures' names that a study is about; without one of them, it is about all figures.
MAIN = 'box AP', 'mask AP', 'mIoU'
#: Folder of the cells.
_FOLDER = 'corrupted'


def corruptions() -> list[str]:
    """Return the names of the 15 corruptions, in the order of ImageNet-C."""
    return list(published_robustness()['sets']['imagenet-c']['corruptions'])


def make_cells(quick: bool) -> list[Cell]:
    """Return the clean images as a cell, and each corruption in each severity; for a quick study some of them."""
    names, severities = QUICK if quick else (corruptions(), SEVERITIES)
    return [Cell(f'{_FOLDER}/clean'), *(Cell(_FOLDER, None, name, severity) for name in names
                                        for severity in severities)]


class CorruptImage:
    """A transform that corrupts an image as it was read: BGR, uint8, ``(H, W, 3)``.

    What is drawn depends on the name of the image's file, the corruption and the severity alone, so that it is the
    same in each run and with any number of workers.

    Args:
        corruption (str): One of :func:`corruptions`.
        severity (int): 1 to 5.
    """

    def __init__(self, corruption: str, severity: int) -> None:
        self.corruption, self.severity = corruption, severity

    def __call__(self, results: dict) -> dict:
        """Return the results of a pipeline with the image corrupted.

        Raises:
            UserError: It is no image of three channels in bytes, or too small.
        """
        from imagecorruptions import corrupt
        image, file = results['img'], Path(results.get('img_path') or '')
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < SMALLEST:
            raise UserError(f'{file} is an image of {image.dtype}, {image.shape}; corruptions are for uint8, (H, W, '
                            f'3), from {SMALLEST} x {SMALLEST} pixels on')
        seed = zlib.crc32(f'{file.name} {self.corruption} {self.severity}'.encode())
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            # The library takes RGB.
            corrupted = corrupt(np.ascontiguousarray(image[..., ::-1]), self.severity, self.corruption,
                                **({'seed': seed} if self.corruption in _SEEDED else {}))
        finally:
            np.random.set_state(state)
        results['img'] = np.ascontiguousarray(corrupted[..., ::-1])
        return results


def check_library() -> None:
    """Raise a ``UserError`` where the library of the corruptions is not installed."""
    if importlib.util.find_spec('imagecorruptions') is None:
        raise UserError('corruptions need imagecorruptions-imaug, which is not installed: pip install '
                        "'convnext_mm[robustness]'")


def corrupt_dataset(dataset: Mapping, cell: Cell) -> None:
    """Have every data set inside a config's one corrupt its images right after they are read.

    Raises:
        UserError: One has no step that reads images.
    """
    for key, leaf in leaf_datasets(dataset, 'test_dataloader.dataset'):
        steps = leaf.get('pipeline') or []
        place = next((number for number, step in enumerate(steps) if type_name(step).startswith('LoadImage')), None)
        if place is None:
            raise UserError(f'{key}.pipeline has no LoadImageFromFile, after which images can be corrupted')
        leaf['pipeline'] = [*steps[:place + 1], CorruptImage(cell.corruption, cell.severity), *steps[place + 1:]]


def measure_cell(model: Any, cfg: Any, cell: Cell, show: Callable[[float], None] = lambda share: None) -> dict:
    """Return the figures of a model on the images of a cell, by their names, COCO's in percent.

    Args:
        model (nn.Module): A detector or a segmentor of mm's.
        cfg (Config): Of the model; its test's loader and evaluators are used.
        cell (Cell): Of :func:`make_cells`.
        show (Callable): Called with the share that is done.

    Raises:
        UserError: An image cannot be corrupted, or there is no figure.
    """
    loader, evaluator = copy.deepcopy(cfg.test_dataloader), copy.deepcopy(cfg.test_evaluator)
    if cell.corruption:
        corrupt_dataset(loader.dataset, cell)
    batches = Runner.build_dataloader(loader)
    evaluator = EVALUATOR.build(evaluator if 'metrics' in evaluator else dict(type='Evaluator', metrics=evaluator))
    evaluator.dataset_meta = getattr(batches.dataset, 'metainfo', None)
    try:
        for number, batch in enumerate(batches, 1):
            with torch.no_grad():
                found = model.test_step(batch)
            evaluator.process(data_samples=found, data_batch=batch)
            show(number / len(batches))
    except UserError as error:
        # From a worker it comes with the worker's traceback.
        raise UserError(str(error).strip().splitlines()[-1].split('UserError: ')[-1]) from None
    named = (name_figure(key, value, False) for key, value in evaluator.evaluate(len(batches.dataset)).items())
    figures = {name: value for name, value, _ in named if isinstance(value, (int, float)) and value == value}
    if not figures:
        raise UserError('test_evaluator measures nothing on the images of test_dataloader: these need annotations, and '
                        'it must not have format_only')
    return figures


def read_figures(folder: str | Path, cell: Cell, model: str) -> dict[str, float] | None:
    """Return the stored figures of a cell, or None where there are none.

    Raises:
        UserError: They are of another model, or cannot be read.
    """
    return read_cell(folder, cell, model,
                     lambda stored: {name: float(value) for name, value in stored['figures'].items()} or None)


def summarise(measured: Mapping[Cell, Mapping[str, float]]) -> dict:
    """Return the figures of a study, ready for JSON.

    Args:
        measured (Mapping): Cell -> figures by their names.

    Returns:
        dict: Figure -> ``clean``, ``mPC``, ``relative_mPC`` (in percent; None where the clean figure is 0), and
        ``corrupted``, by corruption and severity. A figure that a cell lacks, such as the AP of objects of a size that
        no image has, is left out.
    """
    clean = next(figures for cell, figures in measured.items() if not cell.corruption)
    names = [name for name in clean if all(name in figures for figures in measured.values())]
    names = [name for name in names if name.endswith(MAIN)] or names
    return {name: _summarise_figure(measured, name, clean[name]) for name in names}


def _summarise_figure(measured, name, clean):
    table: dict[str, dict[int, float]] = {}
    for cell, figures in measured.items():
        if cell.corruption:
            table.setdefault(cell.corruption, {})[cell.severity] = figures[name]
    mpc = statistics.fmean(statistics.fmean(row.values()) for row in table.values())
    return dict(clean=clean, mPC=mpc, relative_mPC=100 * mpc / clean if clean else None, corrupted=table)


def format_summary(summary: Mapping[str, dict]) -> str:
    """Return the figures of :func:`summarise` as Markdown: a table of the means, and one for each figure."""
    table = next(iter(summary.values()))['corrupted']
    severities = sorted({severity for row in table.values() for severity in row})
    whole = len(table) == len(corruptions()) and len(severities) == len(SEVERITIES)
    part = '' if whole else f' of {len(table)} corruptions, {len(severities)} severities'
    rows = [(name, f'{found["clean"]:.1f}', f'{found["mPC"]:.1f}',
             '-' if found['relative_mPC'] is None else f'{found["relative_mPC"]:.1f} %')
            for name, found in summary.items()]
    tables = [_markdown(('figure', 'clean', f'mPC{part}', 'relative mPC'), rows)]
    for name, found in summary.items():
        tables.append(_markdown((name, *(f'severity {severity}' for severity in severities), 'mean'), [
            (corruption, *(f'{row[severity]:.1f}' for severity in severities), f'{statistics.fmean(row.values()):.1f}')
            for corruption, row in found['corrupted'].items()]))
    return '\n\n'.join(tables)


def _markdown(header, rows):
    lines = [header, ('---', *('---:',) * (len(header) - 1)), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
