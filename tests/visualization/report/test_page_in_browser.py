"""The page in a browser: it fits phone and desk, light and dark, and its charts answer to pointer and legend."""
import shutil
import time

import pytest

for _needed in ('mmdet', 'mmseg', 'bokeh', 'selenium'):
    pytest.importorskip(_needed, reason=f'the page in a browser needs {_needed}')

BROWSER, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason='chromium or chromedriver is not installed')

OPTIONS = ['headless', 'no-sandbox', 'disable-gpu', 'disable-background-networking', 'disable-component-update',
           'disable-sync', 'no-first-run', 'hide-scrollbars']
GROUNDS = {'light': 'rgb(251, 251, 250)', 'dark': 'rgb(21, 23, 27)'}
#: Letters of these are painted; the tests of the style sheet compare their contrasts.
COLOURS = {'light': {'c0': 'rgb(11, 98, 168)', 'soft': 'rgb(90, 96, 107)'},
           'dark': {'c0': 'rgb(116, 185, 255)', 'soft': 'rgb(165, 173, 186)'}}
#: What is wrong with the layout, and what stands in the charts.
MEASURE = """
const root = document.documentElement, all = [...document.querySelectorAll('main *')];
const clipped = e => e.closest('.scroll, nav');
const text = e => [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim());
const inside = e => [e.shadowRoot, e].flatMap(r => [...r?.children ?? []]).flatMap(c => [c, ...inside(c)]);
return {
  overflow: root.scrollWidth - root.clientWidth,
  outside: [...all, ...all.flatMap(inside).filter(e => e.matches('canvas, .bk-item'))].filter(
    e => !clipped(e) && e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.outerHTML.slice(0, 80)),
  images: [...document.images].map(i => [i.naturalWidth, i.getBoundingClientRect().width]),
  small: all.filter(e => text(e) && e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 12).length,
  ground: getComputedStyle(document.body).backgroundColor,
  drawn: Bokeh.documents.length, plots: document.querySelectorAll('.plot').length,
  lines: Bokeh.documents.flatMap(d => d.roots()[0].renderers).filter(r => r.name).map(
    r => [r.name, r.glyph.line_color.value ?? r.glyph.line_color]),
  labels: Bokeh.documents.map(d => d.roots()[0].below[0].axis_label_text_color),
  fetched: performance.getEntriesByType('resource').map(r => r.name).filter(name => !name.startsWith('data:')),
};
"""
#: Places on the page of a chart: its frame, and each entry of its legend.
PLACES = """
const every = (e, selector) => [e.shadowRoot, e].flatMap(root => [...root?.children ?? []]).flatMap(
  c => [...(c.matches(selector) ? [c] : []), ...every(c, selector)]);
const plot = document.querySelectorAll(arguments[0])[arguments[1]];
plot.scrollIntoView({block: 'center'});
const view = Bokeh.index.roots.find(v => plot.contains(v.el));
const canvas = every(plot, '.bk-events')[0].getBoundingClientRect(), frame = view.frame.bbox;
return {
  frame: [canvas.left + frame.left, canvas.top + frame.top, frame.width, frame.height],
  legend: every(plot, '.bk-item').map(e => { const b = e.getBoundingClientRect();
    return [e.textContent, b.left + b.width / 2, b.top + b.height / 2]; }),
  tooltip: every(document.body, '.values th').map(th => [th.textContent, th.nextSibling.textContent]),
  step: every(document.body, '.values').map(values => values.firstChild.textContent),
  shown: view.model.renderers.filter(r => r.name).map(r => [r.name, r.visible]),
};
"""


@pytest.fixture(scope='module')
def browser(page, tmp_path_factory):
    """A browser with the page."""
    from selenium import webdriver
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in [*OPTIONS, f'user-data-dir={tmp_path_factory.mktemp("profile")}']:
        options.add_argument(f'--{option}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def wait(browser, condition):
    """Wait until a script returns something true, and return it."""
    end = time.monotonic() + 60
    while not (value := browser.execute_script(condition)):
        assert time.monotonic() < end, condition
        time.sleep(.05)
    return value


def load(browser, page, width, theme):
    """Open the page in a window of a width, in a theme; return when all charts are drawn."""
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(
        width=width, height=900, deviceScaleFactor=1, mobile=False))
    set_theme(browser, theme)
    browser.get(page.as_uri())
    wait(browser, "return document.querySelectorAll('.plot').length && Bokeh.documents.length == "
                  "document.querySelectorAll('.plot').length && Bokeh.documents.every(d => d.is_idle)")


def set_theme(browser, theme):
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[
        dict(name='prefers-color-scheme', value=theme)]))


def move(browser, x, y, click=False):
    """Move the pointer to a place on the screen, and press there."""
    events = ['mouseMoved', *(['mousePressed', 'mouseReleased'] if click else [])]
    for event in events:
        browser.execute_cdp_cmd('Input.dispatchMouseEvent', dict(
            type=event, x=x, y=y, button='left' if event != 'mouseMoved' else 'none', clickCount=int(click)))


@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1400])
def test_layout(browser, page, width, theme):
    load(browser, page, width, theme)
    found = browser.execute_script(MEASURE)
    assert found['overflow'] <= 0 and found['outside'] == []
    assert len(found['images']) == 15 and all(natural > 0 and shown > 90 for natural, shown in found['images'])
    assert found['small'] == 0, 'letters below 12 pixels'
    assert found['drawn'] == found['plots'] > 10 and found['fetched'] == []
    assert found['ground'] == GROUNDS[theme]
    lines = dict(found['lines'])
    assert lines['loss'] == COLOURS[theme]['c0'] and set(found['labels']) == {COLOURS[theme]['soft']}
    assert [entry for entry in browser.get_log('browser') if entry['level'] in ('SEVERE', 'WARNING')] == []


def test_the_theme_can_change(browser, page):
    load(browser, page, 800, 'light')
    set_theme(browser, 'dark')
    wait(browser, f"return Bokeh.documents[0].roots()[0].below[0].axis_label_text_color == '{COLOURS['dark']['soft']}'")
    assert dict(browser.execute_script(MEASURE)['lines'])['loss'] == COLOURS['dark']['c0']


@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1400])
def test_pointer_and_legend(browser, page, width, theme):
    """On the chart of all runs: a run of 199 lines of log, then resumed, one of 59, and one with none."""
    load(browser, page, width, theme)
    chart = ['#all-runs .plot', 0]
    places = browser.execute_script(PLACES, *chart)
    assert places['tooltip'] == [] and [name for name, _, _ in places['legend']] == ['done', 'upernet', 'new']

    def point(step):
        # What is drawn moves the frame, whose end is a little behind the last step; a pixel is up to 28 iterations.
        wait(browser, 'return Bokeh.documents.every(d => d.is_idle)')
        left, top, breadth, height = browser.execute_script(PLACES, *chart)['frame']
        move(browser, left + breadth * step / (1.015 * 8050), top + height / 2)
        found = browser.execute_script(PLACES, *chart)
        text, = found['step']
        assert text.startswith('iteration ') and abs(int(text[10:].replace(',', '')) - step) < 28
        return {name: float(value.split(' at ')[0]) for name, value in found['tooltip']}
    assert point(500) == {'done': .1, 'upernet': pytest.approx(1 / 500, rel=.06)}
    assert point(4000) == {'done': .0125}

    name, x, y = places['legend'][0]
    move(browser, x, y, click=True)
    assert browser.execute_script(PLACES, *chart)['shown'] == [['done', False], ['upernet', True], ['new', True]]
    assert set(point(500)) == {'upernet'}
    move(browser, x, y, click=True)
    assert browser.execute_script(PLACES, *chart)['shown'][0] == ['done', True]
    assert [entry for entry in browser.get_log('browser') if entry['level'] in ('SEVERE', 'WARNING')] == []


def test_a_click_hides_values_and_mean(browser, page):
    load(browser, page, 1400, 'light')
    places = browser.execute_script(PLACES, '#losses .plot', 0)
    left, top, breadth, height = places['frame']
    move(browser, left + breadth / 2, top + height / 2)
    (name, text), = browser.execute_script(PLACES, '#losses .plot', 0)['tooltip']
    assert name == 'loss' and ' (mean ' in text
    _, x, y = places['legend'][0]
    move(browser, x, y, click=True)
    visible = 'return Bokeh.documents[arguments[0]].roots()[0].renderers.map(r => r.visible)'
    hidden = [i for i in range(browser.execute_script('return Bokeh.documents.length'))
              if not all(browser.execute_script(visible, i))]
    assert len(hidden) == 1 and browser.execute_script(visible, hidden[0])[:2] == [False, False]
