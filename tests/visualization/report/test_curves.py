"""The charts of runs draw what their logs tell."""
import pytest

from convnext_mm.visualization.report import curves, runs
from tests.helpers.runs import CASCADE, rate_line, start, train_line

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'the configs of the runs are of {_toolbox}')


def test_every_loss_has_a_curve_in_the_chart_of_its_part():
    lines = [dict(loss=1., loss_rpn_cls=.1, loss_cls=.2),
             {'loss': 1., 'loss_mask': .3, 's0.loss_bbox': .1, 'aux.loss_ce': .2, 'acc': 9}]
    assert curves.loss_groups(lines) == {
        'rpn': ['loss_rpn_cls'], 'head': ['loss_cls', 'loss_mask'], 's0': ['s0.loss_bbox'], 'aux': ['aux.loss_ce']}


@pytest.fixture
def detector(tmp_path):
    """A run of the paper that was resumed, with losses, rates and two validations."""
    lines = [train_line(step, 50) for step in range(10, 110, 10)] + [rate_line(50), rate_line(100)]
    metrics = [{'coco/bbox_mAP': .1 * epoch, 'coco/segm_mAP': .05, 'step': epoch} for epoch in (1, 2)]
    start(tmp_path / 'a', '20260101_000000', [*lines, *metrics], CASCADE)
    start(tmp_path / 'a', '20260102_000000', [train_line(110, 50)], CASCADE, resumed=(2, 100))
    return runs.read_run(tmp_path / 'a')


def test_losses(detector):
    total, *parts = curves.loss_charts(detector)
    assert [(chart.title, [s.label for s in chart.series]) for chart in parts] == [
        ('decode', ['decode.loss_ce']), ('aux', ['aux.loss_ce'])]
    series, = total.series
    assert (series.x, series.y) == ([*range(10, 120, 10)], [1 / x for x in range(10, 120, 10)])
    assert (series.value, series.window, total.resumed) == ('0.00909', 0, [100])
    assert all(chart.small and chart.resumed == [100] for chart in parts)


def test_many_losses_get_a_mean(tmp_path):
    start(tmp_path, '20260101_000000', [train_line(step) for step in range(1, 61)])
    assert [s.window for chart in curves.loss_charts(runs.read_run(tmp_path)) for s in chart.series] == [3, 3, 3]


def test_accuracy(detector):
    chart = curves.accuracy_chart(detector)
    box, mask = chart.series
    assert (box.label, box.x, box.y, box.value, box.dots) == ('box AP', [1, 2], [10, 20], '20.0', True)
    assert (mask.label, mask.y) == ('mask AP', [5, 5]) and chart.x_label == 'epoch'
    levels = [(level.label, level.y) for level in chart.levels]
    assert levels == [('box AP published', 50.4), ('mask AP published', 43.7)]


def test_rates(detector, tmp_path):
    chart = curves.rate_chart(detector)
    assert [s.label for s in chart.series] == ['layer 00', 'layer 01', 'layer 02'] and chart.log and not chart.note
    assert chart.series[2].value == '0.0001' and [s.hue for s in chart.series] == [225, 308, 30]
    start(tmp_path / 'b', '20260101_000000', [train_line(50)])
    chart = curves.rate_chart(runs.read_run(tmp_path / 'b'))
    assert [(s.label, s.y) for s in chart.series] == [('base rate', [1e-4]), ('first group', [5e-5])]
    assert 'no rates by layer' in chart.note


def test_a_run_that_has_just_begun_has_no_charts(tmp_path):
    run = runs.read_run(start(tmp_path, '20260101_000000', None))
    assert (curves.loss_charts(run), curves.accuracy_chart(run), curves.rate_chart(run)) == ([], None, None)
    assert curves.comparison_charts([run, run], ['a', 'b']) == []


def test_comparison(detector, tmp_path):
    start(tmp_path / 'b', '20260101_000000', [train_line(50, 50), {'coco/bbox_mAP': .3, 'step': 1}], CASCADE)
    loss, box = curves.comparison_charts([detector, runs.read_run(tmp_path / 'b')], ['a', 'b'])
    assert [(s.label, len(s.x), s.colour) for s in loss.series] == [('a', 11, 0), ('b', 1, 1)]
    assert [(s.label, s.value) for s in box.series] == [('a', '20.0'), ('b', '30.0')]
    assert box.title == 'box AP, per cent'
