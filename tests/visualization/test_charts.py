"""Charts draw what they are given: every curve, every extreme, honest means, readable colours."""
import colorsys
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from convnext_mm.visualization import charts
from convnext_mm.visualization.charts import Chart, Level, Series

CSS = Path(charts.__file__).with_name('report') / 'report.css'


@pytest.mark.parametrize(('values', 'window', 'means'), [
    ([1, 2, 3, 4, 5], 3, [1.5, 2, 3, 4, 4.5]), ([1, math.nan, 3], 3, [1, math.nan, 3]),
    ([1, math.inf, 3, 5], 3, [1, math.nan, 4, 4]), ([2, 4], 9, [3, 3]), ([], 3, [])])
def test_means_are_centred_and_stop_where_nothing_is(values, window, means):
    assert charts.smooth(values, window) == pytest.approx(means, nan_ok=True)


def test_thinning_keeps_every_extreme_at_the_same_steps_in_all_curves():
    x, y = list(range(10000)), [math.sin(i / 50) for i in range(10000)]
    y[1234], y[7777], y[5000] = 9., -9., math.nan
    other = [0.] * 10000
    other[4321] = 1.
    kept = charts.kept_steps([Series('a', x, y), Series('b', x, other)])
    assert {0, 1234, 4321, 5000, 7777, 9999} <= set(kept) and len(kept) <= 4 * charts.STRETCHES + 2
    assert list(kept) == sorted(set(kept))
    few = [Series('a', [1, 3], [3, 4]), Series('b', [2], [4]), Series('c', [], [])]
    assert list(charts.kept_steps(few)) == [1, 2, 3]


bokeh = pytest.importorskip('bokeh', reason='the charts are drawn by bokeh')


def draw(chart):
    """A bokeh figure, and its legend as label -> renderers."""
    figure = charts._figure(chart)
    return figure, {item.label.value: item.renderers for item in figure.legend[0].items}


def test_a_curve_goes_where_its_values_are():
    figure, entries = draw(Chart('t', [Series('a', [0, 50, 100], [0, 1, 2], value='2.0')], 'iteration'))
    assert list(entries) == ['a 2.0'] and figure.legend[0].click_policy == 'hide'
    renderer, = entries['a 2.0']
    assert (renderer.glyph.x, renderer.glyph.y, renderer.name) == ('x', 'y', 'a')
    data = {key: list(values) for key, values in renderer.data_source.data.items()}
    assert data == {'x': [0, 50, 100], 'y': [0, 1, 2]}
    assert (figure.x_range.start, figure.y_range.start, figure.xaxis.axis_label) == (0, 0, 'iteration')
    assert figure.y_range.renderers == [renderer]


def test_what_is_no_number_interrupts_a_curve():
    _, entries = draw(Chart('t', [Series('a', [0, 1, 2, 3], [1, math.nan, 2, math.inf])], 'x'))
    values = entries['a'][0].data_source.data['y']
    assert np.isnan(values).tolist() == [False, True, False, True]


def test_a_mean_is_drawn_over_the_values():
    _, entries = draw(Chart('t', [Series('a', [1, 2, 3], [1, 2, 6], window=3)], 'x'))
    mean, values = entries['a']
    assert (mean.glyph.y, values.glyph.y, mean.name, values.name) == ('mean', 'y', 'a', None)
    assert list(mean.data_source.data['mean']) == [1.5, 3, 4] and values.glyph.line_alpha < .5


def test_levels_and_marks_can_be_switched_off_too():
    figure, entries = draw(Chart('t', [Series('AP', [1, 2], [40, 44], dots=True)], 'epoch', 'a note',
                                 [Level('published', 90.5)], [1.5]))
    counts = {label: len(renderers) for label, renderers in entries.items()}
    assert counts == {'AP': 2, 'published 90.5': 1, 'resumed': 1}
    # The level is inside, though no value reaches it.
    assert entries['published 90.5'][0] in figure.y_range.renderers
    assert entries['resumed'][0].data_source.data['x'] == [1.5]


@pytest.mark.parametrize(('y', 'log', 'start'), [
    ([1, 2], False, 0), ([-1, 2], False, math.nan), ([], False, 0), ([1e-3, 1e-5], True, 1e-5 / 1.15),
    ([1e-3, 1e-9, 0], True, 1e-7 / 1.15), ([0], True, math.nan)])
def test_where_y_starts(y, log, start):
    figure, _ = draw(Chart('t', [Series('a', list(range(len(y))), y)], 'x', log=log))
    assert figure.y_range.start == pytest.approx(start, nan_ok=True)


@pytest.mark.parametrize(('x', 'ends'), [
    ([10, 100], (0, 100)), ([50, 100], (50, 100)), ([18], (0, 18)), ([], (0, 1)), ([0], (0, 1))])
def test_where_x_starts_and_ends(x, ends):
    assert charts._x_limits(Chart('t', [Series('a', x, x)], 'x')) == ends


def test_a_chart_is_json_with_colours_of_the_style_sheet():
    chart = Chart('t', [Series('a', [1], [1], colour=7), Series('b', [1], [1], hue=225)], 'x', resumed=[1], log=True)
    text = json.dumps(charts.chart_json(chart))
    used = set(re.findall(r'var\(--([\w-]+)\)', text))
    assert used == {'c1', 'hue-light', 'ink', 'soft', 'grid', 'card'}
    assert used <= set(re.findall(r'--([\w-]+):', CSS.read_text()))


def luminance(rgb):
    return sum(w * (c / 12.92 if c <= .03928 else ((c + .055) / 1.055) ** 2.4)
               for w, c in zip((.2126, .7152, .0722), rgb))


def contrast(one, two):
    a, b = sorted(map(luminance, (one, two)))
    return (b + .05) / (a + .05)


def read(colour):
    digits = colour[1:] if len(colour) == 7 else ''.join(2 * c for c in colour[1:])
    return [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]


@pytest.mark.parametrize('theme', [0, 1], ids=['light', 'dark'])
def test_colours_can_be_told_from_the_ground(theme):
    """By WCAG 2.1: 4.5 for text, 3 for lines."""
    block = re.findall(r':root \{(.*?)\}', CSS.read_text(), re.S)[theme]
    colours = dict(re.findall(r'--([\w-]+): ([^;]+);', block))
    for ground in ('card', 'paper'):
        for name in ('ink', 'soft', 'accent', 'good', 'bad', 'warn'):
            assert contrast(read(colours[name]), read(colours[ground])) >= 4.5, (name, ground)
    card = read(colours['card'])
    for i in range(len(charts.DASHES)):
        assert contrast(read(colours[f'c{i}']), card) >= 4.5
    light = float(colours['hue-light'].rstrip('%')) / 100
    for hue in range(225, 391, 5):
        assert contrast(colorsys.hls_to_rgb(hue % 360 / 360, light, .75), card) >= 3, hue
