"""Tables line up."""
from convnext_mm.utils.text import format_table


def test_columns():
    assert format_table(('part', 'n'), [('a', 12345), ('longer', 1)]) == (
        'part        n\n'
        'a       12345\n'
        'longer      1')
