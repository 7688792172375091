"""Stopping when asked: a checkpoint at the next iteration, a word on how to go on, an exit code of its own."""
import contextlib
import os
import shlex
import signal
import sys

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from torch.utils.data import DataLoader

from convnext_mm.engine.hooks.checkpoint import ATOMIC, INTERRUPTED
from convnext_mm.engine.run_status import update_status
from convnext_mm.engine.worker_signals import shield_workers
from convnext_mm.registry import HOOKS
from convnext_mm.utils.errors import RunInterrupted

#: What SLURM, other schedulers and people at a keyboard send.
SIGNALS = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT


@contextlib.contextmanager
def interruptible(work_dir):
    """Around a run: a signal ends it at once, with the exit code of an interruption, until the hook takes over.

    Raises:
        RunInterrupted: Naming the signal and the command that goes on; exit code 75.
    """
    process = os.getpid()

    def stop(number, frame):
        # Workers of data loaders are ended by the training.
        if os.getpid() == process:
            raise _interrupted(work_dir, signal.Signals(number).name, 'before the first iteration')
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@HOOKS.register_module()
class InterruptionHook(Hook):
    """Ends a run at the next iteration after a signal; a second Ctrl-C ends it at once.

    Raises:
        RunInterrupted: Naming the signal, the checkpoint and the command that goes on; exit code 75.
    """

    # After all that happens in an iteration.
    priority = 'LOWEST'

    def __init__(self):
        self._signal = 0

    def before_train(self, runner):
        self._process = os.getpid()
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        for loop in (runner.train_loop, runner.val_loop):
            if isinstance(getattr(loop, 'dataloader', None), DataLoader):
                shield_workers(loop.dataloader, SIGNALS)

    def after_train(self, runner):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if os.getpid() != self._process:
            # A data loader's worker, to which a terminal sends Ctrl-C too; it ends with the training.
            return
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
        print_log(f'{signal.Signals(number).name} received: stopping at the next iteration'
                  f'{", Ctrl-C again to stop at once" if number == signal.SIGINT else ""}', logger='current')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._stop_if_asked(runner, runner.iter + 1)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._stop_if_asked(runner, runner.iter, validating=True)

    def _stop_if_asked(self, runner, iteration, validating=False):
        asked = torch.tensor(self._signal)
        # Processes are told at different moments, and have to stop at the same iteration.
        all_reduce(asked, op='max')
        if not asked:
            return
        name, file = signal.Signals(asked.item()).name, os.path.join(runner.work_dir, INTERRUPTED.format(iteration))
        if validating:
            # Averages that are validated stand in the place of the weights.
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)
        runner.save_checkpoint(*os.path.split(file), meta=dict(epoch=runner.epoch, iter=iteration), by_epoch=False,
                               backend_args=ATOMIC)
        # A process that ends has the others ended by the launcher, the one that writes among them.
        barrier()
        raise _interrupted(runner.work_dir, name, f'after iteration {iteration}; checkpoint {file}', checkpoint=file)


def _interrupted(work_dir, name, when, **content):
    """Note in the status that signal ``name`` ended a run; return the error that says so."""
    resume = shlex.join([*_start_of_command(), *_without_resume(sys.argv), '--resume', 'auto'])
    update_status(work_dir, state='interrupted', reason=name, resume=resume, exit_code=RunInterrupted.exit_code,
                  **content)
    return RunInterrupted(f'stopped by {name} {when}; go on with: {resume}')


def _start_of_command(environ=os.environ):
    """What started this process, in front of the script: Python, through torchrun or SLURM where it was one of them."""
    if 'TORCHELASTIC_RUN_ID' in environ:
        nodes = environ['GROUP_WORLD_SIZE']
        # Of several nodes, each was told more than its processes are.
        return ['torchrun', *([] if nodes == '1' else ['--nnodes', nodes]),
                '--nproc_per_node', environ['LOCAL_WORLD_SIZE']]
    return ['srun', 'python'] if 'SLURM_STEP_ID' in environ else ['python']


def _without_resume(arguments):
    """A command line without its ``--resume`` and what follows it."""
    kept = []
    for argument in arguments:
        if kept and kept[-1] == '--resume':
            kept.pop()
            if not argument.startswith('-'):
                continue
        if not argument.startswith('--resume='):
            kept.append(argument)
    return kept[:-1] if kept[-1] == '--resume' else kept
