"""The operations of the 34 networks of the roadmap against the published ones, and the table that shows both."""
import re

import pytest

from convnext_mm.evaluation.roadmap import collect_rows, count_step, format_rows
from convnext_mm.published.paper import published
from convnext_mm.published.roadmap import ENDS, REGIMES, STEPS

#: Published operations that the networks cannot have -> those that they have, to the same digits.
MISPRINTS = {('resnet50', 'layer_norm'): (4.46, 4.15), ('resnet50', 'separate_downsampling'): (4.49, 4.46)}


@pytest.mark.parametrize('step', STEPS, ids=lambda step: step.name)
@pytest.mark.parametrize('regime', REGIMES)
def test_operations(regime, step):
    known, counted = getattr(step.figures, regime), count_step(regime, step.name) / 1e9
    assert counted == pytest.approx(known.computed_gmacs, rel=1e-3)
    assert known.misprint == ((regime, step.name) in MISPRINTS)
    if known.misprint:
        assert (known.gmacs, round(counted, 2)) == MISPRINTS[regime, step.name]
    else:
        assert round(counted, 2) == known.gmacs


@pytest.mark.parametrize('regime', REGIMES)
def test_the_end_is_the_published_model(regime):
    """Table 1 has ConvNeXt-T and B with two digits less; 82.1 and 83.8 there are with a moving average of weights."""
    row = next(row for row in published()['imagenet'] if row['arch'] == ENDS[regime] and row['resolution'] == 224)
    last = getattr(STEPS[-1].figures, regime)
    assert round(last.computed_gmacs, 1) == row['flops_g']
    assert abs(last.top1 - row['top1']) < .25


@pytest.mark.parametrize(('step', 'before', 'gains'), [
    ('inverted_bottleneck', 'increase_width', (.14, .79)), ('fewer_norms', 'fewer_activations', (.14, .46))])
def test_gains_that_the_appendix_names(step, before, gains):
    top1 = {known.name: [figures.top1 for figures in known.figures] for known in STEPS}
    assert [b - a for a, b in zip(top1[before], top1[step])] == pytest.approx(gains)


def test_the_table_has_every_row(monkeypatch):
    monkeypatch.setattr('convnext_mm.evaluation.roadmap.count_step', lambda regime, step: 1_234_567_890)
    told = []
    rows = collect_rows({('resnet50', 'gelu'): 12.345}, told.append)
    assert len(rows) == len(told) == 34
    text = format_rows(rows, 'drawn shapes')
    gelu, = (line for line in text.splitlines() if re.search(r'\bgelu\b.*80\.62', line))
    assert re.split(r'\s{2,}', gelu) == ['12', 'gelu', '80.62', '+-0.14', '4.15', '1.235', '12.35']
    assert [line.split()[1] for line in text.splitlines() if line.rstrip().endswith('(*)') or '(*)  ' in line] == [
        'layer_norm', 'separate_downsampling']
    assert text.count(' (-)') == 4 and text.count('drawn shapes') == 1
