"""The documentation site: every page is in its navigation, every link leads somewhere, and a planted one is found."""
import re

import pytest

from tests.helpers import links
from tests.helpers.paths import ROOT
from tests.helpers.site import build, copy_sources, needs_zensical

PAGES = {path.name for path in (ROOT / 'docs').glob('*.md')}
#: Planted text -> what is told about it, by Zensical or by ``links.broken_in_site``.
BROKEN = {
    'a page': ('[x](nowhere.md)', 'page does not exist'),
    'an anchor': ('[x](train.md#nowhere)', 'anchor does not exist'),
    'a file of the repository': ('[x](../configs/demo/upernet.py)', '../configs/demo/upernet.py is not in the site'),
    'a picture': ('![x](nowhere.png)', 'nowhere.png is not in the site'),
    'a script of another host': ('<script src="https://cdn.example/x.js"></script>', 'from another host'),
}


def test_every_page_is_in_the_navigation_once_and_in_the_readme():
    named = re.findall(r'"([\w-]+\.md)"', (ROOT / 'zensical.toml').read_text())
    assert sorted(named) == sorted(PAGES)
    linked = set(re.findall(r'\(docs/([\w-]+\.md)\)', (ROOT / 'README.md').read_text()))
    assert linked == PAGES - {'index.md', 'changes.md', 'development.md'}


def test_links_of_the_markdown_files():
    assert not links.broken_in_markdown(links.MARKDOWN)


@pytest.mark.parametrize(('text', 'told'), [
    ('[x](b.md#a-heading-of-its-own) [y](#here) [z](https://example.com/q)\n\n## Here', []),
    ('```text\n[x](nowhere.md)\n```', []),
    ('[x](nowhere.md)', ['a.md: nowhere.md does not exist']),
    ('![x](nowhere.png)', ['a.md: nowhere.png does not exist']),
    ('[x](b.md#nowhere)', ['a.md: b.md#nowhere has no such heading']),
])
def test_links_of_a_markdown_file(tmp_path, text, told):
    (tmp_path / 'a.md').write_text(text)
    (tmp_path / 'b.md').write_text('# A heading, of its `own`\n')
    assert links.broken_in_markdown([tmp_path / 'a.md']) == told


def test_files_that_pages_name_exist():
    # `configs/mine/...` and the like are written by the reader.
    written = {name for path in links.MARKDOWN for name in re.findall(r'^# file: (\S+)', path.read_text(), re.M)}
    for path in links.MARKDOWN:
        text = path.read_text()
        for name in re.findall(r'(?<![\w/.-])(?:configs|tools|benchmarks|requirements|convnext_mm|tests)/[\w/.-]+\.\w+',
                               text):
            made = name in written or f'--out {name}' in ' '.join(text.replace('\\\n', '').split())
            assert made or (ROOT / name).exists() or f'<!-- fails -->\n```bash\npython tools/train.py {name}' in text, \
                f'{path.name}: {name}'


@pytest.fixture
def told(tmp_path):
    """A function that builds the site with something added to its first page, and returns what was told."""
    copy_sources(tmp_path)

    def told(text):
        page = tmp_path / 'docs/index.md'
        page.write_text(page.read_text() + f'\n{text}\n')
        made = build(tmp_path)
        if made.returncode:
            return re.sub(r'\x1b\[[\d;]*m', '', made.stdout + made.stderr)
        return '\n'.join(links.broken_in_site(tmp_path / 'build/docs'))
    return told


@needs_zensical
def test_the_site_is_whole(told, tmp_path):
    assert not told('')
    assert {path.stem for path in (tmp_path / 'build/docs').glob('*.html')} == {name[:-3] for name in PAGES} | {'404'}
    assert 'layer_wise' in (tmp_path / 'build/docs/search.json').read_text()


@needs_zensical
@pytest.mark.parametrize('kind', BROKEN)
def test_a_broken_link_stops_the_build(told, kind):
    text, message = BROKEN[kind]
    assert message in told(text)
