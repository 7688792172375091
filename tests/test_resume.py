"""A run that is killed and resumed is the run that was not; damaged checkpoints are passed over."""
import os
import random

import pytest

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'runs of the demo need {_toolbox}')
import killing

#: Moments in the order of the kills, each counted from the start of the process that is killed.
MOMENTS = [('step', 0), ('write', 0), ('step', 4), ('validation', 1), ('removal', 0), ('step', 1)]


def compare(folder, model, iterations, moments, workers):
    """Train without and with kills; return rows (moment, iteration resumed from, first difference)."""
    killing.make_data(folder)
    assert killing.train(model, folder, 'whole', iterations, workers) == 0
    rows, before = [], 0
    for moment in moments:
        code = killing.train(model, folder, 'killed', iterations, workers, moment, ('--resume', 'auto'))
        assert code in (-9, 0), (folder / 'killed.log').read_text()[-3000:]
        rows.append(moment)
        if code == 0:
            break
    assert killing.train(model, folder, 'killed', iterations, workers, None, ('--resume', 'auto')) == 0
    whole, killed = killing.losses(folder / 'whole'), killing.losses(folder / 'killed')
    assert len(whole) == iterations
    assert set(killed) == set(whole)
    for step, (expected,) in whole.items():
        assert all(record == expected for record in killed[step]), (step, expected, killed[step])
    expected, got = killing.weights(folder / 'whole'), killing.weights(folder / 'killed')
    assert expected.keys() == got.keys()
    assert all(expected[name].equal(got[name]) for name in expected)
    return rows, before


@pytest.mark.parametrize('model', killing.MODELS)
def test_a_killed_run_is_the_run_that_was_not(tmp_path, model):
    compare(tmp_path, model, 12, MOMENTS, workers=1)
