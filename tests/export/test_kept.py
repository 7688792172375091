"""What stays of a file's results in a smaller one: labels, detections in nearly the same place, near values."""
import numpy as np
import pytest

from convnext_mm.export.kept import NEAR, Tried, compare_files, counted, format_tried

pytest.importorskip('torchvision', reason='boxes overlap by torchvision')


def test_detections_that_stay_are_of_the_same_class_in_the_same_place():
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 5, 5.]]])
    exact = [boxes, np.array([[.9, .8, .1]]), np.array([[0, 1, 2]]), np.array([3])]
    moved, other, fewer = ([part.copy() for part in exact] for _ in range(3))
    moved[0][0, 0] += 4
    other[2][0, 1] = 5
    fewer[3][0] = 0
    share = counted(('boxes', 'scores')).share
    assert [share(exact, found) for found in (exact, moved, other, fewer)] == [1, .5, .5, 0]
    assert share(fewer, exact) == 1
    # Of a batch, each image is compared with its own.
    both, swapped = ([np.concatenate(pair) for pair in zip(*images)] for images in ((exact, moved), (moved, moved)))
    assert share(both, both) == 1 and share(both, swapped) == .75


def test_values_stay_that_are_near_and_labels_that_are_equal():
    values = [np.array([4., 2, -1, 0]), np.array([1., 1])]
    found = [values[0] + np.array([0, -4.1 * NEAR, 3.9 * NEAR, 0]), values[1]]
    assert counted(('stage0', 'stage1')).share(values, found) == .75
    assert counted(('labels',)).share([np.array([1, 2])], [np.array([1, 3])]) == .5


def test_files_take_turns_and_the_first_run_of_a_size_is_not_timed():
    calls = []

    def file(name):
        return lambda images: calls.append((name, images.shape[2])) or [images]
    inputs = [(np.zeros((2, 3, side, 8)),) for side in (8, 8, 9)]
    share, times = compare_files([file('a'), file('b')], inputs, counted(('stage0',)))
    assert share == 1 and len(times) == 2
    assert calls == [('a', 8)] * 2 + [('b', 8)] * 2 + [('a', 8), ('b', 8)] + [('a', 9)] * 2 + [('b', 9)] * 2


def test_table_names_what_is_counted():
    header, row = format_tried([Tried('all', .5, 1.26, 3.14)], counted(('boxes',))).splitlines()
    assert header.split() == ['in', 'float32', 'same', 'detections', 'MB', 'ms', 'an', 'image']
    assert row.split() == ['all', '50.00%', '1.3', '3.1']
