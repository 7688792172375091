"""The roadmap's steps beside what is published of them: operations counted again, accuracies that were measured."""
from collections.abc import Callable, Mapping
from typing import Any

import torch

from convnext_mm.evaluation.cost import count_macs
from convnext_mm.models.modernized_resnet import ModernizedResNet
from convnext_mm.published.roadmap import REGIMES, STEPS, TITLES
from convnext_mm.utils.text import format_table

#: Side of the images, and classes, of the published operations.
RESOLUTION, CLASSES = 224, 1000


def count_step(regime: str, step: int | str) -> int:
    """Return the multiply-accumulates of a step's network with its classifier, without output norms."""
    with torch.device('meta'):
        model = ModernizedResNet(regime, step, out_indices=(3,)).eval()
        macs, _ = count_macs(model, torch.empty(1, 3, RESOLUTION, RESOLUTION))
    return macs + model.channels[-1] * CLASSES


def collect_rows(measured: Mapping[tuple[str, str], float] | None = None,
                 progress: Callable[[str], Any] = lambda text: None) -> list[dict]:
    """Return one row for every step of both regimes, ready for JSON.

    Args:
        measured (dict): (regime, name of a step) -> accuracy in percent, for those that were trained. Defaults to none.
        progress (Callable): Called with the name of what is counted next.

    Returns:
        list[dict]: ``regime``, ``step``, ``name``, ``title``, ``adopted``, the published ``top1``, ``deviation`` and
        ``gmacs``, whether the latter is a ``misprint``, the counted ``macs``, and ``measured`` or None.
    """
    rows = []
    for regime in REGIMES:
        for number, step in enumerate(STEPS):
            progress(f'{regime} {step.name}')
            known = getattr(step.figures, regime)
            rows.append(dict(
                regime=regime, step=number, name=step.name, title=step.title, adopted=step.adopted, top1=known.top1,
                deviation=known.deviation, gmacs=known.gmacs, misprint=known.misprint,
                macs=count_step(regime, number), measured=(measured or {}).get((regime, step.name))))
    return rows


def format_rows(rows: list[dict], column: str = '') -> str:
    """Return both regimes as tables.

    Args:
        rows (list[dict]): Of :func:`collect_rows`.
        column (str): Title of the measured accuracies, shown if there are any. Defaults to none.
    """
    return '\n\n'.join(_format_regime([row for row in rows if row['regime'] == regime], TITLES[regime], column)
                       for regime in REGIMES) + f'\n\n{_NOTES}'


_NOTES = """published: top-1 in percent on ImageNet-1K, and 10^9 multiply-accumulates at 224x224
(-) a step that the paper tried and did not keep
(*) a misprint: LayerNorm adds no operations to the 4.15 before it, and ConvNeXt-T, the last step, has 4.46"""


def _format_regime(rows, title, column):
    """Return one regime as a table."""
    with_measured = any(row['measured'] is not None for row in rows)

    def cells(row):
        deviation = '' if row['deviation'] is None else f'+-{row["deviation"]:.2f}'
        measured = '' if row['measured'] is None else f'{row["measured"]:.2f}'
        return (row['step'], row['name'] + ('' if row['adopted'] else ' (-)'), f'{row["top1"]:.2f}', deviation,
                f'{row["gmacs"]:.2f}' + (' (*)' if row['misprint'] else ''), f'{row["macs"] / 1e9:.3f}',
                *([measured] if with_measured else []))
    header = ('', title, 'top-1', '', 'G MACs', 'counted', *([column] if with_measured else []))
    return format_table(header, map(cells, rows), left=2)
