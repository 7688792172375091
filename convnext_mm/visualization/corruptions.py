"""Draw the robustness of a detector or a segmentor: its figures over the severity, a panel for each corruption."""
from pathlib import Path

from convnext_mm.visualization.figures import save_figure

_COLUMNS, _COLOURS, _MARKERS = 5, ('#0b62a8', '#c2410c', '#0d8a6a', '#7a3fa0'), 'osD^'


def draw_corruptions(summary: dict, title: str, file: str | Path) -> None:
    """Draw figures into a PNG; the clean ones are the severity 0.

    Args:
        summary (dict): Of :func:`convnext_mm.evaluation.corruptions.summarise`.
        title (str): Says whose figures they are.
        file (str | Path): Replaced as a whole or not at all.
    """
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    names = list(next(iter(summary.values()))['corrupted'])
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(2.6 * columns + .6, 2.2 * rows + 1.2), sharex=True,
                                  sharey=True, layout='constrained', squeeze=False)
    for axes, corruption in zip(panels.flat, names):
        _draw_panel(axes, summary, corruption)
    panels[0, 0].set_ylim(0)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=len(labels), frameon=False)
    figure.suptitle(title, fontsize=11)
    # A label of the whole figure would lie on the legend.
    panels[-1, (columns - 1) // 2].set_xlabel('severity (0: clean)', fontsize=9)
    save_figure(figure, file)


def _draw_panel(axes, summary, corruption):
    """Draw the figures of a corruption."""
    for number, (name, found) in enumerate(summary.items()):
        points = {0: found['clean'], **found['corrupted'][corruption]}
        axes.plot(list(points), list(points.values()), marker=_MARKERS[number % len(_MARKERS)], ms=4, lw=1.5,
                  color=_COLOURS[number % len(_COLOURS)], label=f'{name} (mPC {found["mPC"]:.1f})')
    axes.set_title(corruption.replace('_', ' '), fontsize=9)
    axes.set_xticks(range(6))
    axes.tick_params(labelsize=8)
    axes.grid(color='.92')
    axes.spines[['top', 'right']].set_visible(False)
