"""Predictions are judged by IoU, and the worst are shown first."""
import numpy as np
import pytest

from convnext_mm.visualization.report import runs
from convnext_mm.visualization.report import worst_samples as samples

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'the models are of {_toolbox}')

SQUARE = np.zeros((3, 10, 10), bool)
SQUARE[0, :4, :4] = SQUARE[1, :4, :2] = SQUARE[2, 6:, 6:] = True
BOXES = np.array([[0, 0, 4, 4], [0, 0, 2, 4], [6, 6, 10, 10]], float)


@pytest.mark.parametrize('shapes_', [SQUARE, BOXES], ids=['masks', 'boxes'])
@pytest.mark.parametrize(('true', 'found', 'iou', 'missed', 'extra'), [
    ([0], [0], 1, 0, 0), ([0], [1], .5, 0, 0), ([0, 2], [0], .5, 1, 0), ([0], [0, 2], .5, 0, 1), ([0], [2], 0, 1, 1),
    ([], [], 1, 0, 0), ([], [0], 0, 0, 1), ([0, 1], [1, 0], 1, 0, 0)])
def test_iou_of_instances(shapes_, true, found, iou, missed, extra):
    assert samples.instance_iou(shapes_[true], np.zeros(len(true)), shapes_[found], np.zeros(len(found))) == (
        pytest.approx(iou), missed, extra)


def test_instances_match_within_their_class():
    assert samples.instance_iou(BOXES[:1], np.array([0]), BOXES[:1], np.array([1])) == (0, 1, 1)


def test_iou_of_a_segmentation():
    true, found = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]])
    assert samples.segmentation_iou(true, found, 3) == (pytest.approx((1 / 2 + 1 / 2) / 2), 0)
    assert samples.segmentation_iou(np.array([[0, 0, 0, 1]]), np.array([[0, 0, 0, 2]]), 3) == (pytest.approx(1 / 3), 1)
    assert samples.segmentation_iou(np.full((1, 2), 255), np.zeros((1, 2), int), 3) == (1., 0)


@pytest.mark.parametrize(('name', 'titles'), [
    ('cascade', ['ground truth', 'prediction']), ('upernet', ['image', 'ground truth', 'prediction'])])
def test_samples_are_the_worst_first(name, titles, trained, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setattr(samples, 'SHOWN', 3)
    run = runs.read_run(f'work_dirs/{name}')
    worst, checked, size = samples.predict_samples(run.config, run.checkpoint)
    assert (checked, size, len(worst)) == (5, 5, 3)
    assert [s.measure for s in worst] == sorted(s.measure for s in worst) and 'IoU 0.' in worst[0].measure
    for sample in worst:
        assert list(sample.panels) == titles
        assert all(p.dtype == np.uint8 and max(p.shape) == samples.SIDE for p in sample.panels.values())
    monkeypatch.setattr(samples, 'SHOWN', 5)
    every = samples.predict_samples(run.config, run.checkpoint)[0]
    assert [s.name for s in every[:3]] == [s.name for s in worst], 'not the worst, but the first'
