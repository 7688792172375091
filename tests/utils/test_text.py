"""Tables line up, lists of names are cut, and a name is one line."""
from pathlib import Path

import pytest

from convnext_mm.utils.text import format_table, printable, shorten


def test_columns():
    assert format_table(('part', 'n'), [('a', 12345), ('longer', 1)]) == (
        'part        n\n'
        'a       12345\n'
        'longer      1')


@pytest.mark.parametrize(('names', 'most', 'text'), [
    ('abc', 5, 'a, b, c'), ('abc', 3, 'a, b, c'), ('abc', 2, 'a, b and 1 more'), ((), 5, ''),
    ((1, 2, 3), 1, '1 and 2 more')])
def test_lists_of_names(names, most, text):
    assert shorten(names, most) == text


@pytest.mark.parametrize(('name', 'text'), [
    ('a b/ä€[1].png', 'a b/ä€[1].png'), ('a\nb', r"'a\nb'"), ('a\udcff', r"'a\udcff'"), (Path('a\tb'), r"'a\tb'")])
def test_names_on_one_line(name, text):
    assert printable(name) == text
