"""Line charts by bokeh: hovering shows step and value, a click in the legend switches a curve off.

A chart is data until :func:`chart_json` turns it into a bokeh document. Colours are CSS expressions in tags of bokeh's
models: the page's script (`report/templates/script.html`) paints them, in the colours of the reader's theme.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from convnext_mm.utils.errors import UserError

#: Stretches of a chart in which each curve keeps its lowest and its highest point; the rest is left out.
STRETCHES = 300
#: Categorical colours of the style sheet (`--c0` ...), each with its own dashes.
DASHES = ('solid', [8, 3], [2, 3], [9, 3, 2, 3], [5, 2], [14, 4])
#: Heights of charts in pixels.
HEIGHT, SMALL_HEIGHT = 238, 148
#: Decades that a logarithmic axis shows.
DECADES = 4
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
#: The legend wraps into the width that it has.
LEGEND = """
:host { max-width: 100%; }
.bk-grid { display: flex; flex-wrap: wrap; width: auto; gap: 2px 14px !important; }
"""


class Series(NamedTuple):
    """A curve.

    Attributes:
        label (str): Its name in the legend; unique within a chart.
        x, y (Sequence[float]): Points in the order of x; a y that is not finite interrupts the curve.
        colour (int): Index of the style sheet's categorical colours. Defaults to 0.
        hue (int, optional): In degrees, in place of ``colour``: for ordered curves.
        window (int): From 2 on, a centred mean over so many values is drawn, and the values pale behind it.
            Defaults to 0.
        dots (bool): Mark each point. Defaults to False.
        value (str): Shown behind the label. Defaults to nothing.
    """

    label: str
    x: list
    y: list
    colour: int = 0
    hue: int | None = None
    window: int = 0
    dots: bool = False
    value: str = ''


class Level(NamedTuple):
    """A horizontal line at ``y``, such as a published value, in a series' colour."""

    label: str
    y: float
    colour: int = 0


class Chart(NamedTuple):
    """A chart.

    Attributes:
        title (str): Says what is drawn, with its unit.
        series (Sequence[Series]): One or more.
        x_label (str): What x counts.
        note (str): A sentence below the title. Defaults to none.
        levels (Sequence[Level]): Horizontal lines. Defaults to none.
        resumed (Sequence[float]): Where vertical lines mark that a training was resumed. Defaults to none.
        log (bool): Logarithmic y. Defaults to False.
        small (bool): Less high. Defaults to False.
    """

    title: str
    series: list
    x_label: str
    note: str = ''
    levels: Sequence = ()
    resumed: Sequence = ()
    log: bool = False
    small: bool = False


def require_library() -> None:
    """Raise a ``UserError`` where bokeh is not installed."""
    try:
        import bokeh  # noqa: F401
    except ImportError as error:
        raise UserError("the report draws its curves with bokeh, which is not installed: pip install 'bokeh>=3.9,<4', "
                        "or install convnext_mm with its extra 'report'") from error


def library_script() -> str:
    """Return bokeh's script, for a page without network."""
    from bokeh.resources import Resources
    return '\n'.join(Resources(mode='inline', components=['bokeh'], log_level='error').js_raw)


def smooth(values, window: int) -> np.ndarray:
    """Return centred means over up to ``window`` values, fewer at both ends; NaN where a value is not finite."""
    values = np.asarray(values, float)
    finite = np.isfinite(values)
    # Position i is the sum of the i values before it.
    sums, counts = (np.concatenate([[0], np.cumsum(a)]) for a in (np.where(finite, values, 0), finite))
    half, places = window // 2, np.arange(len(values))
    start, end = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    means = (sums[end] - sums[start]) / np.maximum(counts[end] - counts[start], 1)
    return np.where(finite, means, np.nan)


def kept_steps(series) -> np.ndarray:
    """Return the steps that are drawn: of each curve the extremes of each stretch, at the same steps in all curves.

    Args:
        series (Sequence[Series]): Of one chart.
    """
    steps = np.unique(np.concatenate([np.asarray(s.x, float) for s in series]))
    if len(steps) <= 2 * STRETCHES:
        return steps
    kept = [steps[-1:]]
    for s in series:
        x, y = np.asarray(s.x, float), np.asarray(s.y, float)
        for part in np.array_split(np.arange(len(x)), STRETCHES):
            finite = part[np.isfinite(y[part])]
            # What is not finite interrupts the curve.
            kept.append(x[np.setdiff1d(part, finite)[:1]])
            if len(finite):
                kept.append(x[[finite[y[finite].argmin()], finite[y[finite].argmax()]]])
    return np.unique(np.concatenate(kept))


def chart_json(chart: Chart) -> dict:
    """Return a chart as JSON, which `Bokeh.embed.embed_item` takes."""
    from bokeh.embed import json_item
    return dict(json_item(_figure(chart)))


def _figure(chart):
    """Return a bokeh figure with all that a chart has."""
    from bokeh import models, plotting
    left, right = _x_limits(chart)
    figure = plotting.figure(
        frame_height=SMALL_HEIGHT if chart.small else HEIGHT, sizing_mode='stretch_width', min_border=0, tools='',
        toolbar_location=None, x_axis_label=chart.x_label, y_axis_type='log' if chart.log else 'linear',
        x_range=(left, right + .015 * (right - left)), y_range=models.DataRange1d(only_visible=True, range_padding=.06))
    _style(figure)
    x_axis, y_axis = figure.axis
    x_axis.ticker = models.BasicTicker(min_interval=1, desired_num_ticks=5)
    x_axis.formatter = models.NumeralTickFormatter(format='0.[0]a')
    y_axis.formatter = models.PrintfTickFormatter(format='%.1e' if chart.log else '%.3g')
    if chart.log:
        y_axis.ticker = models.LogTicker(mantissas=[1, 2, 5])
    curves = _add_curves(figure, chart)
    figure.y_range.start = _lowest(chart)
    figure.y_range.renderers = [renderer for _, renderers in curves for renderer in renderers]
    legend = models.Legend(
        items=[models.LegendItem(label=label, renderers=renderers)
               for label, renderers in curves + _add_marks(figure, chart)],
        click_policy='hide', orientation='horizontal', location='bottom_left', margin=4, padding=0,
        border_line_color=None, background_fill_alpha=0, label_text_font=FONT, label_text_font_size='13px',
        stylesheets=[LEGEND], tags=[{'label_text_color': 'var(--ink)', 'inactive_fill_color': 'var(--card)'}])
    figure.add_layout(legend, 'below')
    # An invisible line over the whole width: the page's script tells what the curves are where the pointer is.
    pointer = figure.line([left, right], [1, 1], alpha=0)
    figure.add_tools(models.HoverTool(renderers=[pointer], mode='vline', line_policy='none', show_arrow=False))
    return figure


def _x_limits(chart):
    """Return the ends of x: from the start of the run, unless that would press the curves to the right."""
    steps = [x for s in chart.series for x in s.x]
    left, right = min(steps, default=0), max(steps, default=0) or 1
    return (0 if left == right or left < .3 * right else left), right


def _lowest(chart):
    """Return where y starts, or NaN where bokeh chooses."""
    values = np.concatenate([np.asarray(s.y, float) for s in chart.series])
    values = values[np.isfinite(values)]
    if chart.log:
        positive = values[values > 0]
        # Rates that fall to 0 would leave no room for the others.
        return max(positive.min(), positive.max() / 10 ** DECADES) / 1.15 if len(positive) else np.nan
    return np.nan if (values < 0).any() else 0


def _style(figure):
    figure.background_fill_color = figure.border_fill_color = figure.outline_line_color = None
    figure.xgrid.grid_line_color = None
    figure.ygrid.tags = [{'grid_line_color': 'var(--grid)'}]
    for axis in figure.axis:
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = None
        axis.axis_label_text_font_size = axis.major_label_text_font_size = '12px'
        axis.axis_label_text_font_style = 'normal'
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.tags = [{'axis_label_text_color': 'var(--soft)', 'major_label_text_color': 'var(--soft)'}]


def _add_curves(figure, chart):
    """Draw series and levels; return the label and the renderers of each."""
    kept, curves = kept_steps(chart.series), []
    for s in chart.series:
        renderers = _add_series(figure, s, kept)
        _colour(renderers, _palette(s.colour) if s.hue is None else f'hsl({s.hue} 75% var(--hue-light))')
        curves.append((f'{s.label} {s.value}'.rstrip(), renderers))
    for level in chart.levels:
        line = figure.line(_x_limits(chart), [level.y, level.y], line_dash=[9, 4, 2, 4], line_width=1.5)
        _colour([line], _palette(level.colour))
        curves.append((f'{level.label} {level.y:g}', [line]))
    return curves


def _add_series(figure, series, kept):
    """Draw the ``kept`` steps of a series; return its renderers, of which the first has its name."""
    from bokeh.models import ColumnDataSource
    x, y = np.asarray(series.x, float), np.asarray(series.y, float)
    drawn = np.isin(x, kept)
    source = ColumnDataSource({'x': x[drawn], 'y': np.where(np.isfinite(y), y, np.nan)[drawn].astype(np.float32)})
    dash = DASHES[series.colour % len(DASHES)] if series.hue is None else 'solid'
    curve = dict(source=source, name=series.label, line_width=2, line_dash=dash)
    if series.window > 1:
        source.add(smooth(y, series.window)[drawn].astype(np.float32), 'mean')
        pale = figure.line('x', 'y', source=source, line_alpha=.32)
        return [figure.line('x', 'mean', **curve), pale]
    renderers = [figure.line('x', 'y', **curve)]
    if series.dots:
        # Two curves may have a point in one place.
        renderers.append(figure.scatter('x', 'y', source=source, size=9 if series.colour == 0 else 6))
    return renderers


def _add_marks(figure, chart):
    """Draw where a training was resumed; return label and renderers, or nothing."""
    if not chart.resumed:
        return []
    marks = figure.vspan(x=list(chart.resumed), line_dash=[2, 4], line_width=1.5)
    _colour([marks], 'var(--soft)')
    return [('resumed', [marks])]


def _palette(index):
    return f'var(--c{index % len(DASHES)})'


def _colour(renderers, expression):
    for renderer in renderers:
        renderer.glyph.tags = [{'line_color': expression, 'fill_color': expression}]
