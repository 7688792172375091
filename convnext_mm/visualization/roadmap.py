"""Draw the paper's figure 2: the accuracy of every step of the roadmap in both regimes, with its operations."""
from pathlib import Path

from convnext_mm.published.roadmap import PEERS, REGIMES, STEPS, TITLES
from convnext_mm.visualization.figures import save_figure

#: Of the bars, by the part of the paper; after the first two parts in the order of the table.
_COLOURS = {'': '#7b828c', 'recipe': '#4b5563', 'macro design': '#0b62a8', 'ResNeXt': '#0d8a6a',
            'inverted bottleneck': '#8a5a00', 'large kernels': '#7a3fa0', 'micro design': '#c2410c'}
#: Where the axis of the accuracies starts, and the columns of figures stand, in percent.
_START, _END, _OPERATIONS, _MEASURED = 75., 84.6, 85.9, 88.4


def draw_roadmap(rows: list[dict], file: str | Path, column: str = '') -> None:
    """Draw both regimes side by side into a PNG.

    Args:
        rows (list[dict]): Of :func:`convnext_mm.evaluation.roadmap.collect_rows`.
        file (str | Path): Replaced as a whole or not at all.
        column (str): Title of the measured accuracies, shown if there are any. Defaults to none.
    """
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    figure, panels = plt.subplots(1, 2, figsize=(15, 7.5), sharey=True, layout='constrained')
    for axes, regime in zip(panels, REGIMES):
        _draw_regime(axes, [row for row in rows if row['regime'] == regime])
        if any(row['measured'] is not None for row in rows):
            _write_measured(axes, [row for row in rows if row['regime'] == regime], column)
        _draw_peer(axes, *getattr(PEERS, regime))
        axes.set_title(TITLES[regime], loc='left', fontsize=12)
    _label_steps(panels[0])
    figure.supxlabel('top-1 accuracy on ImageNet-1K in percent, as published (lines: one standard deviation of three '
                     'runs); hatched: not adopted', fontsize=10)
    save_figure(figure, file)


def _write_measured(axes, rows, column):
    """Write a column of what was measured."""
    axes.text(_MEASURED, -1.1, column.replace(', ', ',\n'), ha='center', va='center', fontsize=8, color='.35')
    for row in rows:
        text = '-' if row['measured'] is None else f'{row["measured"]:.1f}'
        axes.text(_MEASURED, row['step'], text, ha='center', va='center', fontsize=9)
    axes.set_xlim(_START, _MEASURED + 1.3)


def _draw_regime(axes, rows):
    """Draw the bars of a regime, and its operations behind them."""
    axes.text(_OPERATIONS, -1.1, 'G MACs', ha='center', fontsize=9, color='.35')
    for row, step in zip(rows, STEPS):
        place, colour = row['step'], _COLOURS[step.part]
        axes.barh(place, row['top1'] - _START, left=_START, height=.72, color=colour if step.adopted else 'white',
                  edgecolor=colour, hatch=None if step.adopted else '////', xerr=row['deviation'],
                  error_kw=dict(lw=1, capsize=2, ecolor='.2'))
        _write_top1(axes, row['top1'], place, row['deviation'] or 0)
        # Counted: two of the published ones are misprints.
        axes.text(_OPERATIONS, place, f'{row["macs"] / 1e9:.2f}', ha='center', va='center', fontsize=9)
    axes.set_xlim(_START, _OPERATIONS + 1)
    axes.set_xticks(range(int(_START) + 1, int(_END) + 1, 2))
    axes.tick_params(axis='y', length=0)
    axes.set_ylim(len(rows) + .9, -1.8)
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='x', color='.93')
    axes.set_axisbelow(True)


def _write_top1(axes, top1, place, deviation=0.):
    """Write an accuracy behind its bar, over the line of the transformer."""
    axes.text(top1 + deviation + .1, place, f'{top1:.2f}', va='center', fontsize=9,
              bbox=dict(color='white', pad=1, lw=0))


def _draw_peer(axes, name, top1, gmacs):
    """Draw the transformer that a regime is compared with, as the last bar and a line."""
    place = len(STEPS) + .2
    axes.barh(place, top1 - _START, left=_START, height=.72, color='.88', edgecolor='.6')
    axes.text(_START + .15, place, name, va='center', fontsize=9)
    _write_top1(axes, top1, place)
    axes.text(_OPERATIONS, place, f'{gmacs:.2f}', ha='center', va='center', fontsize=9)
    axes.plot([top1, top1], [-.5, place + .36], color='.6', lw=1, ls=(0, (4, 3)), zorder=0)


def _label_steps(axes):
    """Write the steps beside the left panel, in the colours of their parts, and each part once."""
    axes.set_yticks(range(len(STEPS)), [f'{step.title}  {number}' for number, step in enumerate(STEPS)], fontsize=9)
    for label, step in zip(axes.get_yticklabels(), STEPS):
        label.set_color(_COLOURS[step.part])
    for part in list(_COLOURS)[2:]:
        places = [number for number, step in enumerate(STEPS) if step.part == part]
        axes.text(_START + .15, places[0], part, va='center', fontsize=8, color='white', style='italic')
