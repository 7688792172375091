"""The picture of the roadmap shows every accuracy, the counted operations, and what was measured."""
import pytest
from PIL import Image

from convnext_mm.evaluation.roadmap import collect_rows
from convnext_mm.published.roadmap import PEERS, REGIMES, STEPS
from convnext_mm.visualization.roadmap import draw_roadmap

pyplot = pytest.importorskip('matplotlib.pyplot', reason='matplotlib is not installed')


@pytest.mark.parametrize('measured', [{}, {('resnet200', 'gelu'): 12.34}])
def test_what_is_written(measured, tmp_path, monkeypatch):
    monkeypatch.setattr('convnext_mm.evaluation.roadmap.count_step', lambda regime, step: 3_330_000_000)
    figures = []
    monkeypatch.setattr(pyplot, 'close', figures.append)
    draw_roadmap(collect_rows(measured), tmp_path / 'new/a.png', 'drawn shapes')
    assert Image.open(tmp_path / 'new/a.png').size == (1650, 825)
    figure, = figures
    for axes, regime in zip(figure.axes, REGIMES):
        texts = [text.get_text() for text in axes.texts]
        name, top1, gmacs = getattr(PEERS, regime)
        for value in (*(getattr(step.figures, regime).top1 for step in STEPS), top1):
            assert f'{value:.2f}' in texts
        assert texts.count('3.33') == len(STEPS) and {name, f'{gmacs:.2f}'} <= set(texts)
        assert ('drawn shapes' in texts) == bool(measured)
        assert ('12.3' in texts) == bool(measured and regime == 'resnet200')
        bars = [patch for patch in axes.patches if patch.get_width() > 0]
        assert [bar.get_x() + bar.get_width() for bar in bars[:len(STEPS)]] == pytest.approx(
            [getattr(step.figures, regime).top1 for step in STEPS])
        assert [bool(bar.get_hatch()) for bar in bars[:len(STEPS)]] == [not step.adopted for step in STEPS]
    assert [label.get_text().split()[-1] for label in figure.axes[0].get_yticklabels()] == list(
        map(str, range(len(STEPS))))
    pyplot.close(figure)
