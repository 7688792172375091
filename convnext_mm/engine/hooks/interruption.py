"""Stop a run when a signal asks for it: write a checkpoint at the next iteration and end with exit code 75."""
import contextlib
import os
import signal

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

#: What SLURM, other schedulers and people at a keyboard send. Windows has no SIGUSR1.
SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1', 'SIGINT') if hasattr(signal, name))


@contextlib.contextmanager
def interruptible(work_dir):
    """Let a signal end the block at once with exit code 75, until ``InterruptionHook`` takes over.

    Raises:
        RunInterrupted: A signal came; the message names it and says how to go on.
    """
    process = os.getpid()

    def stop(number, frame):
        # The workers of data loaders inherit this handler. The training ends them.
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
    """End a run at the next iteration after a signal, with a checkpoint; a second Ctrl-C ends it at once.

    Raises:
        RunInterrupted: The message names the signal and the checkpoint and says how to go on; exit code 75.
    """

    # After all other hooks of an iteration.
    priority = 'LOWEST'

    def __init__(self):
        self._signal = 0

    def before_train(self, runner):
        """Take the signals over, and keep them from the workers of data loaders."""
        self._process = os.getpid()
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        for loop in (runner.train_loop, runner.val_loop):
            if isinstance(getattr(loop, 'dataloader', None), DataLoader):
                shield_workers(loop.dataloader, SIGNALS)

    def after_train(self, runner):
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        """Remember the signal until the next iteration."""
        if os.getpid() != self._process:
            # A worker of a data loader, to which a terminal sends Ctrl-C too. It ends with the training.
            return
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
        print_log(f'{signal.Signals(number).name} received: stopping at the next iteration'
                  f'{", Ctrl-C again to stop at once" if number == signal.SIGINT else ""}', logger='current')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Stop if a signal came."""
        self._stop_if_asked(runner, runner.iter + 1)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Stop if a signal came; the validation is done again after resuming."""
        self._stop_if_asked(runner, runner.iter, validating=True)

    def _stop_if_asked(self, runner, iteration, validating=False):
        asked = torch.tensor(self._signal)
        # The signal reaches the processes at different moments, but all have to stop at the same iteration.
        all_reduce(asked, op='max')
        if not asked:
            return
        name, file = signal.Signals(asked.item()).name, os.path.join(runner.work_dir, INTERRUPTED.format(iteration))
        if validating:
            # A validation runs on the averaged weights: put the run's own weights back before they are saved.
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)
        runner.save_checkpoint(*os.path.split(file), meta=dict(epoch=runner.epoch, iter=iteration), by_epoch=False,
                               backend_args=ATOMIC)
        # A launcher kills all processes when one ends: wait until the main process has written the file.
        barrier()
        raise _interrupted(runner.work_dir, name, f'after iteration {iteration}; checkpoint {file}', checkpoint=file)


def _interrupted(work_dir, name, when, **content):
    """Write to the status file that signal ``name`` ended the run, and return the error that says so."""
    update_status(work_dir, state='interrupted', reason=name, exit_code=RunInterrupted.exit_code, **content)
    return RunInterrupted(f'stopped by {name} {when}; to go on, run the same command again with --resume')
