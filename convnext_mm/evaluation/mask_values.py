"""Check the values of masks before mmseg's metric counts them: it drops those of no class from a part of its sums."""
from collections.abc import Sequence
from typing import Any

import torch

from convnext_mm.utils.errors import UserError
from convnext_mm.utils.installation import command
from convnext_mm.utils.text import shorten


def check_mask_values(mask: torch.Tensor, classes: Sequence[str], ignored: int | None, file: Any) -> None:
    """Make sure that each value of a mask is a class, or the value that is ignored.

    Args:
        mask (Tensor): Integers, of any shape.
        classes (Sequence[str]): Names of the classes 0, 1, ...
        ignored (int, optional): The value that is not counted.
        file (str): Names the mask in the message.

    Raises:
        UserError: A value is another one.
    """
    wrong = (mask < 0) | (mask >= len(classes))
    if ignored is not None:
        wrong &= mask != ignored
    if wrong.any():
        values = shorten(mask[wrong].unique().tolist())
        raise UserError(f'{file} has the values {values} beyond the {len(classes)} classes ({shorten(classes)}): '
                        f'expected 0 to {len(classes) - 1}' + ('' if ignored is None else f', or {ignored} where '
                        'nothing counts (ignore_index)') + f'; {command("check_data")} names all such masks')
