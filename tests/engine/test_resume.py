"""A run that is killed and resumed is the run that was not, to the last bit; damaged checkpoints are passed over."""
import random
import re

import pytest
import torch

from tests.helpers import killing

for _toolbox in ('mmdet', 'mmseg', 'mmpretrain', 'timm'):
    pytest.importorskip(_toolbox, reason=f'the runs need {_toolbox}')

#: Moments in the order of the kills, each counted from the start of the process that is killed.
MOMENTS = [('step', 0), ('write', 0), ('step', 4), ('validation', 1), ('removal', 0), ('step', 1)]


def compare(folder, model, iterations, moments, workers):
    """Train without and with kills; return rows of (moment, iteration resumed from, first iteration that differs)."""
    killing.make_data(folder)
    assert killing.train(model, folder, 'whole', iterations, workers) == 0
    expected, rows = killing.losses(folder / 'whole'), []
    assert len(expected) == iterations
    log = folder / 'killed.log'
    for moment in [*moments, None]:
        start = log.stat().st_size if log.exists() else 0
        code = killing.train(model, folder, 'killed', iterations, workers, moment, ('--resume', 'auto'))
        told = log.read_text()[start:]
        assert code == (-9 if moment else 0), told[-3000:]
        resumed = re.search(r'resumed epoch: \d+, iter: (\d+)', told)
        got = killing.losses(folder / 'killed')
        differing = [step for step in sorted(got) if any(record != expected[step][0] for record in got[step])]
        rows.append((moment, int(resumed[1]) if resumed else 0, differing[0] if differing else None))
    assert set(got) == set(expected)
    whole, killed = killing.state(folder / 'whole'), killing.state(folder / 'killed')
    assert whole.keys() == killed.keys()
    assert not [name for name, value in whole.items() if not equal(value, killed[name])]
    return rows


def equal(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def random_moments():
    chance = random.Random(0)
    kinds = [('step', 9)] * 4 + [('write', 3)] * 2 + [('validation', 4)] * 2 + [('removal', 3)]
    chance.shuffle(kinds)
    return [('step', 0), *((what, chance.randrange(most)) for what, most in kinds)]


@pytest.mark.long
@pytest.mark.parametrize('model', killing.MODELS)
def test_a_killed_run_is_the_run_that_was_not(tmp_path, model, size, record_property):
    iterations, moments = size((12, MOMENTS), (40, random_moments()))
    rows = compare(tmp_path, model, iterations, moments, workers=1)
    record_property('tally', '; '.join(f'{moment} from {resumed}, first difference {first}'
                                       for moment, resumed, first in rows))
    assert [first for _, _, first in rows] == [None] * len(rows), rows
    # Before the first checkpoint there is nothing to go on from; from then on no complete one is lost.
    resumed = [resumed for _, resumed, _ in rows]
    assert resumed == size([0, 0, 0, 3, 6, 6, 6], sorted(resumed)), rows
