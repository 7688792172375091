"""A run that is asked to stop does so at the next iteration, with a checkpoint from which it goes on exactly."""
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from mmengine.hooks import Hook

from convnext_mm.engine.hooks import interruption
from convnext_mm.engine.resume import find_checkpoint
from convnext_mm.engine.run_status import begin_status, read_status
from convnext_mm.engine.worker_signals import shield_workers
from convnext_mm.utils.errors import RunInterrupted
from tests.helpers.toy import ToyData, ToyModel, build_runner

HOOK = [dict(type='convnext_mm.InterruptionHook')]


@pytest.fixture(autouse=True)
def _handlers():
    kept = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


class Signalled(ToyModel):
    """Sends itself signals in some calls: call -> signals."""

    def __init__(self, signals):
        super().__init__()
        self.signals = signals

    def forward(self, *args, **kwargs):
        for number in self.signals.get(self.calls, ()):
            os.kill(os.getpid(), number)
        return super().forward(*args, **kwargs)


def run(work_dir, model=ToyModel, by_epoch=True, hooks=(), **settings):
    length = dict(max_epochs=2) if by_epoch else dict(max_iters=10, val_interval=4)
    runner = build_runner(work_dir, length, [*HOOK, *hooks], model, by_epoch=by_epoch, **settings)
    runner.train()
    return runner


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('number', interruption.SIGNALS)
# The first step, the last of an epoch, the one whose checkpoint is written anyway.
@pytest.mark.parametrize('call', [0, 4, 5, 6])
def test_a_signal_stops_and_the_run_goes_on_exactly(tmp_path, by_epoch, number, call):
    before = signal.getsignal(number)
    whole = run(tmp_path / 'whole', by_epoch=by_epoch)
    assert signal.getsignal(number) is before
    begin_status(tmp_path / 'stopped')
    with pytest.raises(RunInterrupted) as raised:
        run(tmp_path / 'stopped', lambda: Signalled({call: [number]}), by_epoch)
    name, file = signal.Signals(number).name, str(tmp_path / 'stopped' / f'interrupted_iter_{call + 1}.pth')
    assert raised.value.exit_code == 75
    assert str(raised.value) == (f'stopped by {name} after iteration {call + 1}; checkpoint {file}; to go on, run the '
                                 'same command again with --resume')
    status = read_status(tmp_path / 'stopped')
    assert {key: status[key] for key in ('state', 'reason', 'exit_code', 'checkpoint')} == dict(
        state='interrupted', reason=name, exit_code=75, checkpoint=file)

    path, _ = find_checkpoint(tmp_path / 'stopped')
    assert path == file
    again = run(tmp_path / 'stopped', by_epoch=by_epoch, resume=True, load_from=path)
    assert all(a.equal(b) for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values()))
    # Its file has gone with the next regular one.
    assert not os.path.exists(file)


@pytest.mark.parametrize('number', interruption.SIGNALS)
def test_a_signal_before_the_first_iteration_stops_at_once(tmp_path, number):
    class Slow(Hook):
        priority = 'VERY_HIGH'

        def before_run(self, runner):
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    begin_status(tmp_path)
    name, told = signal.Signals(number).name, 'before the first iteration; to go on, run the same command again with'
    with pytest.raises(RunInterrupted, match=f'{name} {told} --resume'), interruption.interruptible(str(tmp_path)):
        run(tmp_path, hooks=[Slow()])
    assert signal.getsignal(number) is before
    status = read_status(tmp_path)
    assert {key: status[key] for key in ('state', 'reason', 'exit_code')} == dict(
        state='interrupted', reason=name, exit_code=75)
    # Inside, the hook has the word, and leaves it as it was.
    with interruption.interruptible(str(tmp_path)):
        around = signal.getsignal(number)
        run(tmp_path / 'whole')
        assert signal.getsignal(number) is around
        with pytest.raises(RunInterrupted, match='after iteration 3'):
            run(tmp_path / 'stopped', lambda: Signalled({2: [number]}))
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, lambda: Signalled({3: [signal.SIGINT, signal.SIGINT]}))
    assert not list(tmp_path.glob('interrupted*'))


@pytest.mark.parametrize('hooks', [(), [dict(type='EMAHook', momentum=.1)]], ids=['plain', 'ema'])
def test_a_signal_in_validation_stops_there(tmp_path, hooks):
    done = []

    class Validating(ToyModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            if mode == 'predict':
                done.append(self.calls)
                if len(done) == 1:
                    os.kill(os.getpid(), signal.SIGUSR1)
            return super().forward(inputs, data_samples, mode)

    settings = dict(
        model=Validating, by_epoch=False, hooks=hooks, val_cfg=dict(type='ValLoop'),
        val_dataloader=dict(dataset=ToyData(), batch_size=5, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=dict(type='DumpResults', out_file_path=str(tmp_path / 'out.pkl')))
    with pytest.raises(RunInterrupted, match='after iteration 4'):
        run(tmp_path / 'stopped', **settings)
    assert len(done) == 1
    again = run(tmp_path / 'stopped', resume=True, load_from=find_checkpoint(tmp_path / 'stopped')[0], **settings)
    # Iterations 4 (whole, this time), 8 and 10.
    assert len(done) == 1 + 3 * 2
    whole = run(tmp_path / 'whole', **settings)
    assert all(a.equal(b) for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values()))


def test_a_folder_of_deepspeeds_goes_too(tmp_path):
    folder = tmp_path / 'interrupted_iter_2.pth'
    (folder / 'part').mkdir(parents=True)
    run(tmp_path)
    assert not folder.exists()


@pytest.mark.parametrize('number', interruption.SIGNALS)
def test_a_signal_to_all_processes_of_a_job_is_left_to_the_main_one(tmp_path, number):
    """As SLURM sends it; workers of data loaders that end by it would end the run without a checkpoint."""
    class Cancelled(ToyModel):
        def forward(self, *args, **kwargs):
            if self.calls == 3:
                workers = multiprocessing.active_children()
                # By a process that is not the workers' parent.
                subprocess.run(['kill', '-s', str(int(number)), *(str(w.pid) for w in workers), str(os.getpid())])
                time.sleep(.2)
                assert len(workers) == 2 and all(w.is_alive() for w in workers)
            return super().forward(*args, **kwargs)

    with pytest.raises(RunInterrupted, match='after iteration 4'):
        run(tmp_path, Cancelled, by_epoch=False, workers=2)
    assert find_checkpoint(tmp_path)[1]['meta']['iter'] == 4


def test_workers_obey_the_process_that_started_them():
    loader = torch.utils.data.DataLoader(range(100), num_workers=1)
    shield_workers(loader, interruption.SIGNALS)
    batches = iter(loader)
    next(batches)
    worker, = multiprocessing.active_children()
    worker.terminate()
    worker.join()
    assert worker.exitcode == 0


def test_imports_where_a_signal_does_not_exist():
    program = ('import signal; del signal.SIGUSR1; from convnext_mm.engine.hooks import interruption; '
               'assert interruption.SIGNALS == (signal.SIGTERM, signal.SIGINT)')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
