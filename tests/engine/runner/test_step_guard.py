"""Steps that are not finite are not applied, and too many of them stop the run with what repeats them."""
import shlex

import pytest

from convnext_mm.checkpoint.files import read
from convnext_mm.utils.errors import RunStopped
from tests.helpers.toy import ToyModel, build_runner

STEPS = dict(max_iters=8)


def run(work_dir, wrong, max_nonfinite=3, **settings):
    runner = build_runner(work_dir, dict(STEPS, max_nonfinite=max_nonfinite), model=lambda: ToyModel(wrong),
                          by_epoch=False, **settings)
    weights = []
    step = type(runner).call_hook

    def call_hook(name, **kwargs):
        if name == 'after_train_iter':
            weights.append(runner.model.linear.weight.detach().clone())
        return step(runner, name, **kwargs)
    runner.call_hook = call_hook
    return runner, weights


@pytest.mark.parametrize('wrong', [{3: 'loss'}, {3: 'gradient'}, {2: 'loss', 3: 'gradient', 5: 'loss', 6: 'gradient'}],
                         ids=str)
def test_a_wrong_step_is_not_applied(tmp_path, wrong):
    runner, weights = run(tmp_path, wrong)
    runner.train()
    assert len(weights) == 8 and all(w.isfinite().all() for w in weights)
    assert {i for i in range(1, 8) if weights[i].equal(weights[i - 1])} == set(wrong)


@pytest.mark.parametrize(('wrong', 'limit', 'stopped'), [
    (dict.fromkeys((2, 3, 4), 'loss'), 3, 5), ({1: 'gradient', 3: 'gradient', 4: 'loss'}, 2, 5), ({6: 'loss'}, 1, 7)])
def test_too_many_stop_the_run(tmp_path, wrong, limit, stopped):
    runner, weights = run(tmp_path, wrong, limit)
    with pytest.raises(RunStopped) as raised:
        runner.train()
    message = str(raised.value)
    assert raised.value.exit_code == 1
    assert f'for {limit} steps in a row, up to iteration {stopped} ' in message
    assert 'images ' in message and '.jpg' in message and ('nan' in message or 'inf' in message)
    command = shlex.split(message.split('with: ')[1])
    assert command[:4] == ['python', '-m', 'convnext_mm', 'train']
    dump = command[command.index('--resume') + 1]
    assert read(dump)['meta']['iter'] == stopped - 1

    # What the command does: the same step, on the same images, with the same weights.
    again, _ = run(tmp_path / 'again', {0: wrong[stopped - 1]}, 1, resume=True, load_from=dump)
    with pytest.raises(RunStopped) as repeated:
        again.train()
    assert str(repeated.value).split('images ')[1].split(';')[0] == message.split('images ')[1].split(';')[0]
    # The last weights that were applied.
    assert again.model.linear.weight.equal(weights[-1])


class Scaler:
    """torch's gradient scaler on the CPU: skips steps whose gradients are not finite, and halves its scale."""

    def __init__(self, scale):
        self.scale, self.skipped = scale, 0

    def get_scale(self):
        return self.scale


@pytest.mark.parametrize(('scale', 'wrong', 'counts'), [
    (65536., 'gradient', False), (1., 'gradient', True), (65536., 'loss', True)])
def test_steps_that_a_settling_scaler_skips_do_not_count(tmp_path, scale, wrong, counts):
    runner, _ = run(tmp_path, {2: wrong, 3: wrong, 4: wrong})
    scaler = Scaler(scale)

    def attach(*args):
        wrapper = runner.optim_wrapper
        wrapper.loss_scaler, step = scaler, wrapper.step

        def scaled_step(**kwargs):
            gradients = [p.grad for p in runner.model.parameters()]
            if all(g.isfinite().all() for g in gradients):
                step(**kwargs)
            else:
                scaler.skipped += 1
        wrapper.step = scaled_step
    runner.load_or_resume = attach
    if counts:
        with pytest.raises(RunStopped):
            runner.train()
    else:
        runner.train()
    assert scaler.skipped == 3
    assert all(p.isfinite().all() for p in runner.model.parameters())
