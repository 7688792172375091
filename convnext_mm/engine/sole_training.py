"""Let one training at a time use a work dir."""
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import Hook

from convnext_mm.engine.work_dir_lock import WorkDirLock
from convnext_mm.utils.files import check_work_dir

#: Variable with the rank of a process, by launcher.
_RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')


class _LockHook(Hook):
    """Stop a run that has lost its lock, before it writes a checkpoint."""

    priority = 'HIGHEST'

    def __init__(self, lock):
        self._lock = lock

    def before_run(self, runner):
        self._lock.check()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._lock.check_last_heartbeat()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._lock.check_last_heartbeat()

    def before_save_checkpoint(self, runner, checkpoint):
        self._lock.check()


@contextlib.contextmanager
def sole_training(work_dir: str | Path, launcher: str = 'none') -> Iterator[list[Hook]]:
    """Hold the lock of a work dir during the block; yield the hooks by which the run stops if it loses the lock.

    The folder is made; if nothing was written into it, it is removed again at the end. Only the main process of a
    distributed run has the lock and the hook.

    Args:
        work_dir (str | Path): The folder of the run.
        launcher (str): What started the processes of the run, as in mmengine's runner. Defaults to ``none``.

    Raises:
        UserError: The folder cannot be written, or another training uses it.
    """
    folder = Path(work_dir).absolute()
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    check_work_dir(work_dir)
    if not _is_main(launcher):
        yield []
        return
    lock = WorkDirLock(work_dir)
    try:
        lock.acquire()
        yield [_LockHook(lock)]
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            for path in new:
                path.rmdir()


def _is_main(launcher):
    """Return whether this is the main process, also before the processes are connected."""
    if is_distributed():
        return is_main_process()
    return os.environ.get(_RANKS.get(launcher, ''), '0') == '0'
