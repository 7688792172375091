"""Line charts as HTML with inline SVG: they fit any width, in the colours of the page's theme (`report.css`).

The curves are stretched to the place they get, with lines of constant thickness; axes and legends are HTML, so letters
keep their size from a phone to a wide screen.
"""
import math
from html import escape
from typing import NamedTuple

#: Points of a curve that are drawn; more are thinned to the least and the greatest of each stretch.
POINTS = 600
#: Categorical colours of the style sheet, each with its own dashes.
COLOURS = 6
_SIDE = 1000


class Series(NamedTuple):
    """A curve.

    Attributes:
        label (str): Its name in the legend; unique within a chart.
        x, y (Sequence[float]): Points in the order of x; a y that is no finite number interrupts the curve.
        colour (int): Index of the style sheet's categorical colours. Defaults to 0.
        hue (int, optional): In degrees, in place of ``colour``: for ordered curves.
        faint (bool): Drawn pale behind the others, without a place in the legend. Defaults to False.
        dots (bool): Each point is marked. Defaults to False.
        value (str): Shown behind the label. Defaults to nothing.
    """

    label: str
    x: list
    y: list
    colour: int = 0
    hue: int | None = None
    faint: bool = False
    dots: bool = False
    value: str = ''


class Level(NamedTuple):
    """A horizontal line at ``y``, such as a published value, in a series' colour."""

    label: str
    y: float
    colour: int = 0


def nice_ticks(low, high, most=6, least_step=0):
    """Round numbers, at most ``most`` and at least ``least_step`` apart, within [low, high].

    >>> nice_ticks(0, 160000)
    [0, 50000, 100000, 150000]
    """
    if not high > low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / most))
    step = next(step * m for m in (1, 2, 5, 10, 20) if (high - low) / (step * m) < most - 1e-9)
    step = max(step, least_step)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low, high):
    """Powers of ten in [low, high]; with 2 and 5 times them where those are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [d * 10. ** e for e in decades for d in digits if low * .999 <= d * 10. ** e <= high * 1.001]
        if len(ticks) >= 3:
            break
    return ticks[::-(-len(ticks) // 7)]


def format_number(value):
    """A number as short as an axis wants it: ``150k``, ``0.25``, ``3e-5``.

    >>> [format_number(v) for v in (150000, 2500, 0.25, 0.00003, 0)]
    ['150k', '2.5k', '0.25', '3e-5', '0']
    """
    if abs(value) >= 1000:
        scaled, unit = (value / 1e6, 'M') if abs(value) >= 1e6 else (value / 1e3, 'k')
        return f'{scaled:.4g}{unit}'
    text = f'{value:.3g}'
    return text.replace('e-0', 'e-').replace('e+0', 'e')


def smooth(values, window):
    """Centred mean over up to ``window`` values, fewer at both ends; what is not finite interrupts it.

    Returns:
        list[float]: As many.
    """
    half, means = window // 2, []
    for i, value in enumerate(values):
        near = [v for v in values[max(i - half, 0):i + half + 1] if math.isfinite(v)]
        means.append(sum(near) / len(near) if math.isfinite(value) else math.nan)
    return means


def thin(x, y, most=POINTS):
    """The curve with its extremes in ``most`` points or so: of each stretch the least and the greatest, in order."""
    if len(x) <= most:
        return list(zip(x, y))
    points, size = [], math.ceil(2 * len(x) / most)
    for start in range(0, len(x), size):
        part = list(zip(x[start:start + size], y[start:start + size]))
        finite = [p for p in part if math.isfinite(p[1])]
        extremes = {min(finite, key=lambda p: p[1]), max(finite, key=lambda p: p[1])} if finite else set(part[:1])
        points.extend(sorted(extremes))
    return points


class _Scale:
    """Values to 0 ... 1 along an axis."""

    def __init__(self, low, high, log=False):
        self.map = math.log10 if log else float
        self.low, self.span = self.map(low), (self.map(high) - self.map(low)) or 1.

    def __call__(self, value):
        return (self.map(value) - self.low) / self.span


def _limits(series, levels, log, zero):
    values = [v for s in series for v in s.y if math.isfinite(v) and not (log and v <= 0)]
    values += [level.y for level in levels]
    if not values:
        return (1e-6, 1.) if log else (0., 1.)
    low, high = min(values), max(values)
    if log:
        # Rates that fall to 0 would leave no room for the others.
        low = max(low, high * 1e-4)
        return low / 1.15, high * 1.15
    low = 0. if zero and low >= 0 else low
    room = .06 * ((high - low) or abs(high) or 1.)
    return (low if low == 0 else low - room), high + room


def _path(points, across, up, log):
    """SVG path data through ``points``, interrupted at what cannot be drawn."""
    parts, command = [], 'M'
    for x, y in points:
        if not math.isfinite(y) or (log and y <= 0):
            command = 'M'
            continue
        height = min(max(up(y), -.01), 1.01)
        parts.append(f'{command}{_SIDE * across(x):.1f} {_SIDE * (1 - height):.1f}')
        command = 'L'
    return ''.join(parts)


def _colour(series):
    if getattr(series, 'hue', None) is not None:
        return f'class="hue" style="--h:{series.hue}"'
    return f'class="c{series.colour % COLOURS}"'


def _curve(series, across, up, log):
    points = thin(series.x, series.y)
    name = f'data-series="{escape(series.label)}"' if not series.faint else 'data-faint=""'
    path = f'<path {name} d="{_path(points, across, up, log)}"/>'
    if series.dots:
        dots = ''.join(_path([point], across, up, log) + 'h0' for point in points if math.isfinite(point[1]))
        path += f'<path class="dots" d="{dots}"/>'
    return f'<g {_colour(series)}{" data-pale" if series.faint else ""}>{path}</g>'


def line_chart(title, series, x_label, note='', levels=(), marks=(), log=False, zero=True):
    """A chart.

    Args:
        title (str): Says what is drawn, with its unit.
        series (Sequence[Series]): One or more.
        x_label (str): What x counts.
        note (str): A sentence below the title. Defaults to none.
        levels (Sequence[Level]): Horizontal lines. Defaults to none.
        marks (Sequence[tuple[float, str]]): Vertical lines: x and what happened there. Defaults to none.
        log (bool): Logarithmic y, over four decades at most. Defaults to False.
        zero (bool): y starts at 0 where nothing is negative. Defaults to True.

    Returns:
        str: HTML, a ``figure``.
    """
    xs = [x for s in series for x in s.x]
    left, right = min(xs, default=0), max(xs, default=0) or 1
    # From the start of the run, unless that would press the curves to the right.
    left = 0 if left == right or left < .3 * right else left
    low, high = _limits(series, levels, log, zero)
    across, up = _Scale(left, right), _Scale(low, high, log)
    x_ticks, y_ticks = nice_ticks(left, right, 5, least_step=1), log_ticks(low, high) if log else nice_ticks(low, high)
    grid = ''.join(f'M0 {_SIDE * (1 - up(y)):.1f}h{_SIDE}' for y in y_ticks)
    lines = ''.join(f'<path class="mark" d="M{_SIDE * across(x):.1f} 0v{_SIDE}"><title>{escape(text)}</title></path>'
                    for x, text in marks if left <= x <= right)
    lines += ''.join(f'<g class="c{level.colour % COLOURS}"><path class="level" data-level="{escape(level.label)}" '
                     f'd="M0 {_SIDE * (1 - up(level.y)):.1f}h{_SIDE}"/></g>' for level in levels)
    curves = ''.join(_curve(s, across, up, log) for s in sorted(series, key=lambda s: not s.faint))
    x_labels = ''.join(f'<span style="left:{100 * across(x):.2f}%">{format_number(x)}</span>' for x in x_ticks)
    y_labels = ''.join(f'<span style="top:{100 * (1 - up(y)):.2f}%">{format_number(y)}</span>' for y in y_ticks)
    legend = [(_colour(s), s.label, s.value, '') for s in series if not s.faint]
    legend += [(_colour(level), level.label, format_number(level.y), ' class="level"') for level in levels]
    if marks:
        legend.append(('class="mark"', marks[0][1], '', ''))
    entries = ''.join(
        f'<li><svg {colour} viewBox="0 0 24 8" aria-hidden="true"><path{kind} d="M0 4h24"/></svg>{escape(label)}'
        + (f' <b>{escape(value)}</b>' if value else '') + '</li>' for colour, label, value, kind in legend)
    return f"""<figure class="chart">
<figcaption>{escape(title)}{f'<small>{escape(note)}</small>' if note else ''}</figcaption>
<div class="plot"><div class="ys">{y_labels}</div>
<svg viewBox="0 0 {_SIDE} {_SIDE}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">
<path class="grid" d="{grid}"/>{lines}{curves}</svg>
<div class="xs">{x_labels}</div><div class="xl">{escape(x_label)}</div></div>
<ul class="legend">{entries}</ul></figure>"""
