"""Does an exported file do what the model does? Both are run on images of several sizes, and compared."""
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from convnext_mm.export.formats import Run
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.progress import Bar
from convnext_mm.utils.text import format_table

#: Share of labels that must agree, and the largest difference of logits or features as a share of the largest one.
LABELS, VALUES = .9999, 1e-4


class Case(NamedTuple):
    """Images of one size, and the size of the result as a share of it."""

    batch: int
    height: int
    width: int
    factor: float = 1.

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the result."""
        return round(self.height * self.factor), round(self.width * self.factor)


#: Sizes are at least ``formats.SMALLEST``, and no multiples of the strides but in the first.
CASES = Case(2, 96, 128), Case(1, 131, 75), Case(2, 90, 150, 1.5), Case(1, 201, 133, .8), Case(1, 128, 256)


class ExportError(UserError):
    """An exported file does something else than the model."""


def images_of(case: Case, files: Sequence[Path] = ()) -> Tensor:
    """Return images of a case as RGB, uint8, ``(N, 3, H, W)``: from files in turn, or drawn.

    Raises:
        UserError: A file is no image.
    """
    if not files:
        generator = torch.Generator().manual_seed(case.height * case.width)
        # Patches of colour with noise: what is alike everywhere has the same label everywhere.
        coarse = torch.rand(case.batch, 3, 8, 8, generator=generator)
        noise = torch.rand(case.batch, 3, case.height, case.width, generator=generator)
        return (F.interpolate(coarse, (case.height, case.width), mode='bicubic').clamp(0, 1) * 200 + noise * 55).byte()
    images = []
    for number in range(case.batch):
        file = files[(case.height + number) % len(files)]
        try:
            with Image.open(file) as image:
                pixels = np.array(image.convert('RGB').resize((case.width, case.height)))
        except (OSError, ValueError) as error:
            raise UserError(f'--images: {file} cannot be read as an image: {error}') from error
        images.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return torch.stack(images)


def check(run: Run, reference: Callable[..., Iterable[Tensor]], compare: Callable[..., Sequence[str]],
          inputs: Sequence[tuple[Case, Tensor]], resizes: bool) -> list[tuple]:
    """Return a row for each case: images, size of the result, and what ``compare`` says.

    Args:
        run (Callable): The exported file.
        reference (Callable): What the model makes of the same images, tensors in and out.
        compare (Callable): ``compare(expected, found)`` returns figures as text, or raises an ``ExportError``.
        inputs (Sequence): Cases and their images.
        resizes (bool): Whether both take the size of the result too.

    Raises:
        ExportError: The two do not agree; it says for which images.
    """
    rows: list[tuple] = []
    bar = Bar(len(inputs), 'checks')
    for case, images in inputs:
        sizes = (case.size,) if resizes else ()
        names = f'{case.batch} x {case.height} x {case.width}', '{} x {}'.format(*case.size) if resizes else '-'
        with torch.no_grad():
            expected = [result.numpy() for result in reference(images, *sizes)]
        try:
            rows.append((*names, *compare(expected, run(images.numpy(), *sizes))))
        except ExportError as error:
            result = f' with results of {names[1]}' if resizes else ''
            raise ExportError(f'the exported model departs from PyTorch at images of {names[0]}{result}: {error}; '
                              'nothing was written') from None
        bar.add()
    return rows


def compare_labels(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[str]:
    """Return the share of labels that agree, and for logits behind them the figure of :func:`compare_values`.

    Raises:
        ExportError: Too few agree.
    """
    _check_shapes(expected[:1], found[:1])
    share = (expected[0] == found[0]).mean()
    if not share >= LABELS:
        raise ExportError(f'{share:.3%} of the labels agree, {LABELS:.2%} must')
    return [f'{share:.3%} of {len(np.unique(expected[0]))} classes', *compare_values(expected[1:len(found)], found[1:])]


def compare_values(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> list[str]:
    """Return for each result the largest difference, as a share of the largest value.

    Raises:
        ExportError: It is too large.
    """
    _check_shapes(expected, found)
    figures = [np.abs(a - b).max() / max(np.abs(a).max(), 1e-30) for a, b in zip(expected, found)]
    for number, figure in enumerate(figures):
        if not figure <= VALUES:
            raise ExportError(f'result {number} differs by {figure:.1e} of its largest value, {VALUES:.0e} may')
    return [f'{figure:.1e}' for figure in figures]


def _check_shapes(expected, found):
    """Raise an ``ExportError`` unless results are as many, and of the same shapes."""
    shapes = [[result.shape for result in results] for results in (expected, found)]
    if shapes[0] != shapes[1]:
        raise ExportError(f'results have the shapes {shapes[1]}, not {shapes[0]}')


def format_check(columns: Sequence[str], rows: Sequence[tuple]) -> str:
    """Return the rows of :func:`check` as a table."""
    return format_table(('images', 'result', *columns), rows, left=2)
