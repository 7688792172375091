"""The documentation site in a browser, opened as a file and without a network: it fits phone and desk, light and dark,
and its search finds."""
import re
import shutil
import time

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.site import build, copy_sources, needs_zensical

webdriver = pytest.importorskip('selenium.webdriver', reason='the site in a browser needs selenium')
BROWSER, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
pytestmark = [pytest.mark.skipif(not (BROWSER and DRIVER), reason='chromium or chromedriver is not installed'),
              needs_zensical]
PAGES = sorted(path.stem for path in (ROOT / 'docs').glob('*.md'))
#: Pixels that the page is wider than the window, what is cut off at its edge, and what was fetched from elsewhere.
MEASURE = """
const width = document.documentElement.clientWidth;
const scrolls = e => e.closest('.md-typeset__scrollwrap, pre');
return {
  over: document.documentElement.scrollWidth - width,
  outside: [...document.querySelectorAll('article *')].filter(
    e => !scrolls(e) && e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 80)),
  ground: getComputedStyle(document.body).backgroundColor,
  fetched: performance.getEntriesByType('resource').map(r => r.name).filter(name => !/^(file|data|blob):/.test(name)),
};
"""


#: The field that has the focus, in the search's own tree or not; and all text on the page.
FIELD = """let e = document.activeElement; while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
return e.matches('input') ? e : null"""
TEXT = """const every = e => [e, ...[...(e.shadowRoot?.children ?? []), ...e.children].flatMap(every)];
return document.body.innerText + every(document.body).map(e => e.shadowRoot?.textContent ?? '').join(' ')"""


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp('site')
    copy_sources(folder)
    assert build(folder).returncode == 0
    return folder / 'build/docs'


@pytest.fixture
def browser():
    """A browser without a network. Each test has a new one: the site keeps the scheme of the first visit."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in ('headless', 'no-sandbox', 'disable-gpu', 'hide-scrollbars', 'no-first-run',
                   'host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost'):
        options.add_argument(f'--{option}')
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1400])
def test_pages_fit(site, browser, width, scheme):
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia',
                            {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]})
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride',
                            {'width': width, 'height': 844, 'deviceScaleFactor': 1, 'mobile': width < 800})
    for page in PAGES:
        browser.get(f'file://{site}/{page}.html')
        found = browser.execute_script(MEASURE)
        assert found['over'] <= 0, page
        assert not found['outside'], page
        assert not found['fetched'], page
        brightness = sum(map(int, re.findall(r'\d+', found['ground'])[:3])) / 3
        assert (brightness > 200) == (scheme == 'light'), (page, found['ground'])


def wait(browser, script, found):
    """Wait until ``found`` takes what a script returns, and return it."""
    end = time.monotonic() + 60
    while not found(value := browser.execute_script(script)):
        assert time.monotonic() < end, value
        time.sleep(.05)
    return value


@pytest.mark.parametrize(('words', 'title'), [
    ('layer_wise', 'Set layer decay'), ('weights only load failed', 'What went wrong?'), ('wandb', 'Other trackers')])
def test_search(site, browser, words, title):
    browser.get(f'file://{site}/index.html')
    wait(browser, 'return document.readyState', 'complete'.__eq__)
    browser.execute_script("document.querySelector('.md-search__button, [for=__search]').click()")
    wait(browser, FIELD, bool).send_keys(words)
    text = wait(browser, TEXT, lambda text: re.search(r'[1-9]\d* results?', text))
    # What the search found, without the navigation that stands behind it.
    assert title.lower() in re.split(r'\d+ results?', text)[-1].lower(), text[-2000:]
