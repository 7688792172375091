"""Colours keep classes apart."""
import numpy as np
import pytest

from convnext_mm.drawing import choose_palette, palette
from convnext_mm.drawing.colours import to_lab


@pytest.mark.parametrize('number', [0, 1, 3, 4, 12, 21, 80, 150])
def test_palette_keeps_classes_apart(number):
    colours = palette(number)
    assert colours.shape == (number, 3) and colours.dtype == np.uint8
    assert len({tuple(c) for c in colours}) == number
    first = colours[:12].astype(int)
    distances = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e9 * np.eye(len(first))
    assert not len(first) or distances.min() > 60
    assert np.array_equal(palette(200)[:number], colours), 'a class keeps its colour'


def test_150_classes_look_different():
    """Beyond ten units of CIELAB, colours are told apart when they are not side by side."""
    places = to_lab(palette(150))
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + 1e9 * np.eye(150)
    assert distances.min() > 15


@pytest.mark.parametrize(('colours', 'count', 'own'), [
    ([(1, 2, 3), (4, 5, 6)], 2, True), (((1, 2, 3),), 1, True), ([(1, 2, 3)] * 80, 2, False), ([], 2, False),
    (None, 2, False)])
def test_colours_of_other_classes_are_not_taken(colours, count, own):
    assert choose_palette(colours, count).tolist() == (list(map(list, colours)) if own else palette(count).tolist())
