"""The loops: an iteration is an optimizer step, and a resumed run is the run that was not interrupted."""
import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator

from convnext_mm.engine.hooks.checkpoint import VALIDATED
from convnext_mm.engine.resume import find_checkpoint
from convnext_mm.engine.run_status import begin_status, read_status, update_status
from convnext_mm.engine.runner.loops import EpochBasedTrainLoop
from convnext_mm.engine.runner.seeded_data import StepSampler
from tests.helpers.toy import ToyData, ToyModel, build_runner

EPOCHS = dict(by_epoch=True, train_cfg=dict(max_epochs=3))
ITERATIONS = dict(by_epoch=False, train_cfg=dict(max_iters=15))
EMA = [dict(type='EMAHook', momentum=.1)]


class Killed(BaseException):
    pass


class Dying(ToyModel):
    """Ends the run in a step, as a kill would."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def forward(self, *args, mode='tensor', **kwargs):
        if self.calls == self.at and mode == 'loss':
            raise Killed
        return super().forward(*args, mode=mode, **kwargs)


def losses(work_dir):
    lines = [line for file in Path(work_dir).glob('*/vis_data/scalars.json') for line in file.read_text().splitlines()]
    return {record['step']: (record['loss'], record['lr']) for record in map(json.loads, lines) if 'loss' in record}


@pytest.mark.parametrize('hooks', [(), EMA], ids=['plain', 'ema'])
@pytest.mark.parametrize(('kind', 'accumulation', 'at', 'resumed'), [
    (EPOCHS, 1, 1, 0), (EPOCHS, 1, 5, 3), (EPOCHS, 1, 11, 9), (EPOCHS, 3, 14, 3), (ITERATIONS, 1, 8, 6),
    (ITERATIONS, 2, 9, 3)])
def test_resumed_is_uninterrupted(tmp_path, kind, accumulation, at, resumed, hooks):
    def run(folder, model=ToyModel, workers=0, **settings):
        train_cfg = dict(kind['train_cfg'], accumulation=accumulation)
        runner = build_runner(
            tmp_path / folder, train_cfg, hooks, model, workers, by_epoch=kind['by_epoch'],
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=.1), accumulative_counts=accumulation), **settings)
        runner.train()
        return runner

    whole = run('whole')
    with pytest.raises(Killed):
        run('killed', lambda: Dying(at))
    found = find_checkpoint(tmp_path / 'killed')
    assert (found[1]['meta']['iter'] if found else 0) == resumed
    # With another number of workers, which must not matter.
    again = run('killed', workers=2, **(dict(resume=True, load_from=found[0]) if found else {}))
    assert losses(tmp_path / 'killed') == losses(tmp_path / 'whole')
    assert all(a.equal(b) for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values()))
    for hook, other in zip(whole.hooks, again.hooks):
        if type(hook).__name__ == 'EMAHook':
            assert all(a.equal(b) for a, b in zip(hook.ema_model.state_dict().values(),
                                                  other.ema_model.state_dict().values()))


@pytest.mark.parametrize('by_epoch', [True, False])
def test_accumulated_batches_are_one_large_batch(tmp_path, by_epoch):
    class Steady(ToyModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            # Neither dropout nor noise: the samples' own numbers.
            numbers = [float(s.img_path.split('/')[1][0]) for s in data_samples]
            return dict(loss=self.linear(torch.tensor(numbers)[:, None].repeat(1, 3)).pow(2).mean())

    results = []
    for batch_size, accumulation in ((4, 1), (2, 2), (1, 4)):
        length = dict(max_epochs=2) if by_epoch else dict(max_iters=6)
        runner = build_runner(
            tmp_path / str(batch_size), dict(length, accumulation=accumulation), model=Steady, batch_size=batch_size,
            by_epoch=by_epoch, optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01), accumulative_counts=accumulation))
        runner.train()
        # Three steps in an epoch of ten samples, the last of two.
        assert runner.iter == 6 and len(losses(tmp_path / str(batch_size))) == 6
        assert len(runner.train_dataloader) == 3
        results.append((runner.model.linear.weight.detach(), losses(tmp_path / str(batch_size))))
    for weight, logged in results[1:]:
        torch.testing.assert_close(weight, results[0][0], rtol=1e-5, atol=0)
        # Losses and rates, too.
        assert logged == {step: pytest.approx(value, rel=1e-4) for step, value in results[0][1].items()}


def test_a_step_of_an_epoch_takes_what_is_left():
    sampler = StepSampler([[0, 1], [2, 3], [4, 5], [6, 7], [8]], 2, (7, 0))
    sampler.start(3)
    steps = list(sampler)
    assert len(sampler) == len(steps) == 3
    assert [[draw.index for draw in step] for step in steps] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert [draw.batch for draw in steps[1]] == [2, 2, 3, 3]
    assert len({draw.seed for step in steps for draw in step}) == 9
    sampler.start(3, 1)
    assert list(sampler) == steps[1:]
    sampler.start(4)
    assert {draw.seed for step in sampler for draw in step}.isdisjoint(d.seed for step in steps for d in step)


def test_a_validation_that_was_cut_off_is_done_on_resume(tmp_path):
    """And one that was not is not done again."""
    done = []

    class Validating(ToyModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            if mode == 'predict':
                done.append(self.calls)
                if len(done) == 2:
                    raise Killed
            return super().forward(inputs, data_samples, mode)

    def run(**settings):
        runner = build_runner(
            tmp_path, dict(max_iters=6, val_interval=3), model=Validating, by_epoch=False, val_cfg=dict(type='ValLoop'),
            val_dataloader=dict(dataset=ToyData(), batch_size=5, sampler=dict(type='DefaultSampler', shuffle=False)),
            val_evaluator=dict(type='DumpResults', out_file_path=str(tmp_path / 'out.pkl')), **settings)
        runner.train()

    with pytest.raises(Killed):
        run()
    run(resume=True, load_from=str(tmp_path / 'iter_3.pth'))
    # Two batches each time: the one of iteration 3 again, then that of iteration 6.
    assert len(done) == 2 + 2 + 2
    run(resume=True, load_from=str(tmp_path / 'iter_6.pth'))
    assert len(done) == 6


class Score(BaseMetric):
    """Rises with the iteration, or falls; notes when it was asked for."""

    def __init__(self, done, sign):
        super().__init__()
        self.done, self.sign, self.runner = done, sign, None

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        self.done.append(self.runner.iter)
        return dict(score=float(self.sign * self.runner.iter))


def validated_run(folder, done, sign=1, model=ToyModel, by_epoch=False, checkpoints=3, **settings):
    """Twelve iterations with validations after 4, 8 and 12, whose scores steer the rate."""
    score = Score(done, sign)
    length = dict(max_epochs=3, val_interval=1) if by_epoch else dict(max_iters=12, val_interval=4)
    runner = build_runner(
        folder, length, model=model, by_epoch=by_epoch, batch_size=3, val_cfg=dict(type='ValLoop'),
        val_dataloader=dict(dataset=ToyData(), batch_size=10, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=Evaluator(score), param_scheduler=[dict(
            type='ReduceOnPlateauLR', monitor='score', rule='greater', patience=0, factor=.5)],
        checkpoint=dict(interval=checkpoints, save_best='score', rule='greater'), **settings)
    score.runner = runner
    begin_status(folder)
    runner.train()
    return runner


def test_a_second_run_in_the_same_folder_validates_all(tmp_path):
    done = []
    for _ in range(2):
        validated_run(tmp_path, done)
    assert done == [4, 8, 12] * 2


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize(('checkpoints', 'sign', 'resumed_from', 'again'), [
    # The newest checkpoint is older than the last validation.
    (3, -1, 6, [8, 12]),
    # It was written just before that validation, which found no better score.
    (4, -1, 8, [8, 12]),
    # With a better one, the state is written after it.
    (3, 1, 8, [12]), (4, 1, 8, [12])])
def test_what_a_validation_changed_is_there_on_resume(tmp_path, by_epoch, checkpoints, sign, resumed_from, again):
    settings, done = dict(sign=sign, by_epoch=by_epoch, checkpoints=checkpoints), []
    whole = validated_run(tmp_path / 'whole', [], **settings)
    with pytest.raises(Killed):
        validated_run(tmp_path / 'killed', done, model=lambda: Dying(8), **settings)
    assert done == [4, 8]
    del done[:]
    path, content = find_checkpoint(tmp_path / 'killed')
    assert content['meta']['iter'] == resumed_from
    resumed = validated_run(tmp_path / 'killed', done, resume=True, load_from=path, **settings)
    assert done == again
    assert losses(tmp_path / 'killed') == losses(tmp_path / 'whole')
    assert all(a.equal(b) for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values()))
    for run in (whole, resumed):
        assert run.message_hub.get_info('best_score') == (12 if sign > 0 else -4)
    assert len(list((tmp_path / 'killed').glob('best_*.pth'))) == 1


# What the state and the status file know of validations, at which iteration they are asked, and what follows from it.
@pytest.mark.parametrize(('in_state', 'in_status', 'start', 'iteration', 'count', 'runs'), [
    (None, None, 0, 4, 1, True),
    # Before `val_begin`.
    (None, None, 0, 4, 0, False),
    (4, None, 0, 4, 1, False),
    (4, None, 0, 8, 2, True),
    # The file counts at the end of a run that goes on from there, and nowhere else.
    (None, 4, 4, 4, 1, True),
    (None, 12, 12, 12, 3, False),
    (8, 12, 8, 12, 3, True),
    (None, 12, 0, 12, 3, True),
    # At iteration 0, after an epoch without a step.
    (None, None, 0, 0, 1, True),
    (None, None, 0, 0, 3, True),
    (0, 0, 0, 0, 2, False)])
def test_when_a_validation_is_done(tmp_path, in_state, in_status, start, iteration, count, runs):
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    info = {} if in_state is None else {VALIDATED: in_state}
    hub = SimpleNamespace(runtime_info=info, update_info=info.__setitem__)
    runner = SimpleNamespace(work_dir=tmp_path, optim_wrapper=None, message_hub=hub, val_loop=mock.Mock(),
                             call_hook=mock.Mock())
    loop._runner, loop._max_nonfinite, loop._iter = runner, 3, start
    loop._epoch, loop.val_begin, loop.dynamic_milestones, loop.dynamic_intervals = count, 1, [0], [1]
    update_status(tmp_path, validated=in_status)
    loop._start()
    loop._iter = iteration
    loop._validate_if_due(count, 3)
    assert runner.val_loop.run.call_count == runs
    assert info == ({VALIDATED: iteration} if runs else {} if in_state is None else {VALIDATED: in_state})
    assert read_status(tmp_path)['validated'] == (iteration if runs else in_status)
