"""Versions are compared by their numbers."""
import pytest

from convnext_mm.utils.versions import digits, satisfies


@pytest.mark.parametrize(('version', 'specifiers', 'fits'), [
    ('2.1.0', '<2.2,>=2.0.0', True), ('2.2.0', '<2.2,>=2.0.0', False), ('2.2', '<2.2.0', False), ('4.57.6', '<5', True),
    ('2.13.0+cu130', '==2.13.0', True), ('2.0.0rc4', '>=2.0.0', True), ('1.9', '>=1.10', False),
    ('3', '', True), ('2.0', '!=2.0', False)])
def test_versions_are_compared_by_their_numbers(version, specifiers, fits):
    assert satisfies(version, specifiers) is fits


@pytest.mark.parametrize(('version', 'numbers'), [
    ('2.4.0rc1+cpu', (2, 4, 0)), ('2.0.1+cu117', (2, 0, 1)), ('5', (5,)), ('unknown', ())])
def test_what_follows_the_numbers_does_not_count(version, numbers):
    assert digits(version) == numbers
