"""Charts draw what they are given: every curve, every extreme, honest means, readable colours."""
import colorsys
import math
import re

import pytest

from convnext_mm.visualization import charts
from convnext_mm.visualization.charts import Level, Series, line_chart

CSS = (charts.__file__.rsplit('/', 1)[0] + '/report.css')


@pytest.mark.parametrize(('low', 'high', 'least', 'ticks'), [
    (0, 160000, 0, [0, 50000, 100000, 150000]), (0, 1, 0, [0, .2, .4, .6, .8, 1]), (0, 2, 1, [0, 1, 2]),
    (.31, .42, 0, [.32, .34, .36, .38, .4, .42]), (5, 5, 0, [5]), (-1, 1, 0, [-1, -.5, 0, .5, 1])])
def test_ticks(low, high, least, ticks):
    assert charts.nice_ticks(low, high, least_step=least) == pytest.approx(ticks)


@pytest.mark.parametrize(('low', 'high', 'first', 'last'), [
    (1e-8, 1e-3, 1e-8, 1e-3), (1e-5, 9e-4, 1e-5, 5e-4), (1.1e-4, 2.3e-4, 1.5e-4, 2e-4)])
def test_log_ticks(low, high, first, last):
    ticks = charts.log_ticks(low, high)
    assert (ticks[0], ticks[-1]) == (pytest.approx(first), pytest.approx(last)) and 2 <= len(ticks) <= 7


@pytest.mark.parametrize(('value', 'text'), [(150000, '150k'), (2500, '2.5k'), (1.5e6, '1.5M'), (.25, '0.25'), (3e-5, '3e-5'),
                                             (0, '0'), (-2, '-2'), (46.2, '46.2')])
def test_numbers(value, text):
    assert charts.format_number(value) == text


def test_means_are_centred_and_stop_where_nothing_is():
    assert charts.smooth([1, 2, 3, 4, 5], 3) == pytest.approx([1.5, 2, 3, 4, 4.5])
    means = charts.smooth([1, math.nan, 3], 3)
    assert means[0] == 1 and math.isnan(means[1]) and means[2] == 3


def test_thinning_keeps_every_extreme():
    x, y = list(range(10000)), [math.sin(i / 50) for i in range(10000)]
    y[1234], y[7777] = 9., -9.
    points = charts.thin(x, y)
    assert len(points) <= charts.POINTS and {(1234, 9.), (7777, -9.)} <= set(points)
    assert [p[0] for p in points] == sorted(p[0] for p in points)
    assert charts.thin([1, 2], [3, 4]) == [(1, 3), (2, 4)]


def paths(html, name):
    return re.findall(rf'data-series="{name}" d="([^"]*)"', html)


def test_a_curve_goes_where_its_values_are():
    html = line_chart('t', [Series('a', [0, 50, 100], [0, 1, 2])], 'iteration')
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, p.split())) for p in paths(html, 'a')[0][1:].split('L'))
    assert (x0, x1, x2) == (0, 500, 1000)
    assert y0 == 1000 and y0 - y1 == pytest.approx(y1 - y2, abs=.11) and 0 < y2 < 100
    # A label stands at the height of its value.
    top = {text: float(place) for place, text in re.findall(r'<span style="top:([\d.]+)%">([^<]+)<', html)}
    assert top['1'] == pytest.approx(y1 / 10, abs=.02) and top['0'] == 100


def test_what_is_no_number_interrupts_a_curve():
    html = line_chart('t', [Series('a', [0, 1, 2, 3], [1, math.nan, 2, math.inf])], 'x')
    assert paths(html, 'a')[0].count('M') == 2 and 'nan' not in html and 'inf' not in html
    html = line_chart('t', [Series('a', [0, 1, 2], [0, 1e-3, 1e-4])], 'x', log=True)
    assert paths(html, 'a')[0].count('M') == 1 and paths(html, 'a')[0].count('L') == 1


def test_levels_marks_legends_and_pale_curves():
    html = line_chart('a <b>', [Series('AP', [1, 2], [40, 44], dots=True, value='44.0'), Series('AP', [1, 2], [39, 45], faint=True)],
                      'epoch', 'a note', [Level('published', 90.5, 0)], [(1.5, 'resumed')])
    assert 'a &lt;b&gt;' in html and '<small>a note</small>' in html
    assert html.count('data-level="published"') == 1 and html.count('data-faint') == 1 and len(paths(html, 'AP')) == 1
    legend = re.sub('<svg.*?</svg>', '', html[html.index('<ul'):])
    assert re.findall(r'<li>(.*?)</li>', legend) == ['AP <b>44.0</b>', 'published <b>90.5</b>', 'resumed']
    # The level is inside, though no value reaches it.
    height = float(re.search(r'data-level="published" d="M0 (-?[\d.]+)h', html).group(1))
    assert 0 < height < 100


def test_one_point_and_no_point():
    html = line_chart('t', [Series('a', [18], [84.3], dots=True)], 'epoch')
    assert paths(html, 'a')[0].startswith('M1000.0 ') and '>18<' not in html and 'class="dots" d="M1000' in html
    assert '<figure' in line_chart('t', [Series('a', [], [])], 'epoch')


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
    with open(CSS, encoding='utf-8') as file:
        css = file.read()
    block = re.findall(r':root \{(.*?)\}', css, re.S)[theme]
    colours = dict(re.findall(r'--([\w-]+): ([^;]+);', block))
    for ground in ('card', 'paper'):
        for name in ('ink', 'soft', 'accent', 'good', 'bad', 'warn'):
            assert contrast(read(colours[name]), read(colours[ground])) >= 4.5, (name, ground)
    card = read(colours['card'])
    for i in range(charts.COLOURS):
        assert contrast(read(colours[f'c{i}']), card) >= 4.5
    light = float(colours['hue-light'].rstrip('%')) / 100
    for hue in range(225, 391, 5):
        assert contrast(colorsys.hls_to_rgb(hue % 360 / 360, light, .75), card) >= 3, hue
