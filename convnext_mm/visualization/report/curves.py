"""Charts of runs: losses, accuracy and learning rates of one run, and the same curve of several runs."""
from collections.abc import Sequence

from convnext_mm.visualization.charts import Chart, Level, Series
from convnext_mm.visualization.report.runs import METRICS, Run

#: From this many points on, a curve gets a centred mean, over one part of so many of its points.
SMOOTH_FROM, SMOOTH_PART = 40, 20


def points(lines, key: str, factor: float = 1) -> tuple[list, list]:
    """Return the steps and the values of a key in a log."""
    found = [(line['step'], line[key] * factor) for line in lines if key in line]
    return [x for x, _ in found], [y for _, y in found]


def known_metrics(run: Run) -> list[tuple]:
    """Return key, label, factor and published value (or None) of the figures that the run's validations have."""
    published = run.published or {}
    return [(key, label, factor, published.get(row_key)) for key, (label, factor, row_key) in METRICS.items()
            if any(key in line for line in run.metrics)]


def comparison_charts(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """Return charts with a curve a run: the loss, and what at least two runs measured."""
    losses = [Series(name, *points(run.losses, 'loss'), colour=i) for i, (run, name) in enumerate(zip(runs, names))]
    charts = [Chart('loss', losses, 'iteration')] if any(series.x for series in losses) else []
    for key, (label, factor, _) in METRICS.items():
        measured = [i for i, run in enumerate(runs) if any(key in line for line in run.metrics)]
        if len(measured) < 2:
            continue
        series = []
        for i in measured:
            x, y = points(runs[i].metrics, key, factor)
            series.append(Series(names[i], x, y, colour=i, dots=True, value=f'{y[-1]:.1f}'))
        units = ' or '.join(dict.fromkeys(runs[i].metric_unit for i in measured))
        charts.append(Chart(f'{label}, per cent', series, units))
    return charts


def _loss_series(lines, key, colour):
    x, y = points(lines, key)
    return Series(key, x, y, colour, window=len(x) // SMOOTH_PART if len(x) >= SMOOTH_FROM else 0,
                  value=f'{y[-1]:.3g}')


def loss_groups(lines) -> dict[str, list[str]]:
    """Return the keys of the losses of each part of the model: ``s0.loss_cls`` is of s0, ``loss_rpn_cls`` of rpn."""
    groups: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for line in lines for key in line):
        if 'loss' in key and key != 'loss':
            part, _, name = key.rpartition('.')
            words = name.split('_')
            part = part or (words[1] if len(words) > 2 else 'head')
            groups.setdefault(part, []).append(key)
    return groups


def loss_charts(run: Run) -> list[Chart]:
    """Return a chart of the total loss, then one for each part of the model; none before the first line of the log."""
    if not run.losses:
        return []
    charts = [Chart('total', [_loss_series(run.losses, 'loss', 0)], 'iteration', resumed=run.resumed)]
    for part, keys in loss_groups(run.losses).items():
        series = [_loss_series(run.losses, key, i) for i, key in enumerate(keys)]
        charts.append(Chart(part, series, 'iteration', resumed=run.resumed, small=True))
    return charts


def accuracy_chart(run: Run) -> Chart | None:
    """Return the chart of what validations measured beside the published values; None where nothing known is."""
    series, levels = [], []
    for i, (key, label, factor, published) in enumerate(known_metrics(run)):
        x, y = points(run.metrics, key, factor)
        series.append(Series(label, x, y, i, dots=True, value=f'{y[-1]:.1f}'))
        if published:
            levels.append(Level(f'{label} published', published, i))
    if not series:
        return None
    note = '' if run.published else 'There is no published value for this config on this data.'
    *first, last = (s.label for s in series)
    title = f'{", ".join(first)} and {last}' if first else last
    return Chart(f'{title}, per cent', series, run.metric_unit, note, levels)


def rate_chart(run: Run) -> Chart | None:
    """Return the chart of the rate of each layer, or of the logger's two rates; None before the first line."""
    keys = sorted({key for line in run.rates for key in line if key.startswith('lr/')})
    if keys:
        # From blue at the stem to orange at the heads.
        hues = [round(225 + 165 * i / max(len(keys) - 1, 1)) % 360 for i in range(len(keys))]
        series, note = [], ''
        for key, hue in zip(keys, hues):
            x, y = points(run.rates, key)
            series.append(Series(key.removeprefix('lr/').replace('_', ' '), x, y, hue=hue, value=f'{y[-1]:.2g}'))
    else:
        note = 'The log has no rates by layer: the config has no convnext_mm.LayerRateHook, or no layer decay.'
        series = [Series(label, *points(run.losses, key), colour=i)
                  for i, (key, label) in enumerate([('base_lr', 'base rate'), ('lr', 'first group')])
                  if any(key in line for line in run.losses)]
    return Chart('learning rate', series, 'iteration', note, resumed=run.resumed, log=True) if series else None
