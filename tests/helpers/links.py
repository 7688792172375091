"""Links that lead nowhere, in the built documentation site and in the Markdown files of the repository.

``python -m tests.helpers.links build/docs`` prints them; ``make docs`` runs it. Standard library alone.
"""
import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.helpers.paths import ROOT

MARKDOWN = [*sorted(ROOT.glob('*.md')), *sorted((ROOT / 'docs').glob('*.md'))]
#: Elements whose address a browser fetches by itself.
FETCHED = {'script', 'link', 'img', 'iframe', 'source'}


class _Page(HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links = {''}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ('id', 'name') if attrs.get(key)}
        # `rel=canonical` and the like are not fetched.
        fetched = tag in FETCHED and attrs.get('rel', 'stylesheet') in ('stylesheet', 'icon', 'preload')
        self.links += [(fetched, attrs[key]) for key in ('href', 'src') if attrs.get(key)]


@cache
def _page(path):
    return _Page(path.read_text(encoding='utf-8'))


def broken_in_site(site: Path) -> list:
    """Return a line for each link of the pages below ``site`` to a file or an anchor that is not there, and for each
    file that a page fetches from another host."""
    wrong = []
    for path in sorted(site.rglob('*.html')):
        name = path.relative_to(site).as_posix()
        for fetched, link in _page(path).links:
            parts = urlsplit(link)
            if parts.fragment.startswith('__'):
                # The theme's own, such as `#__skip` to the text.
                continue
            if parts.scheme or parts.netloc:
                wrong += [f'{name}: fetches {link} from another host'] if fetched and parts.scheme != 'data' else []
                continue
            target = _target(site, path, unquote(parts.path))
            if not target.is_file() or site.resolve() not in target.resolve().parents:
                wrong.append(f'{name}: {link} is not in the site')
            elif target.suffix == '.html' and unquote(parts.fragment) not in _page(target).anchors:
                wrong.append(f'{name}: {link} has no such anchor')
    return wrong


def _target(site, page, path):
    """Return the file that a path on a page leads to."""
    if not path:
        return page
    target = site / path.lstrip('/') if path.startswith('/') else page.parent / path
    return target / 'index.html' if target.is_dir() else target


def broken_in_markdown(paths: list) -> list:
    """Return a line for each link of Markdown files to a file or a heading that is not there."""
    wrong = []
    for path in paths:
        for link in re.findall(r'\]\(([^)\s]+)\)', _prose(path)):
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            if not target.exists():
                wrong.append(f'{path.name}: {link} does not exist')
            elif parts.fragment and target.suffix == '.md' and parts.fragment not in _headings(target):
                wrong.append(f'{path.name}: {link} has no such heading')
    return wrong


def _prose(path):
    """Return the text of a file without blocks of code."""
    return re.sub(r'^```.*?^```$', '', path.read_text(encoding='utf-8'), flags=re.M | re.S)


def _headings(path):
    """Return the anchors that a forge gives to a file's headings."""
    titles = re.findall(r'^#+ (.*)$', _prose(path), re.M)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


def main(arguments: list) -> int:
    """Print what is wrong; return 1 if something is."""
    wrong = broken_in_markdown(MARKDOWN) + [line for site in arguments for line in broken_in_site(Path(site))]
    print('\n'.join(wrong) if wrong else 'links: all lead somewhere')
    return bool(wrong)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
