"""Write the checkpoints of a training run so that there is always a whole one."""
import errno
import os
import shutil
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook

from convnext_mm.registry import HOOKS
from convnext_mm.utils.errors import RunStopped, UserError
from convnext_mm.utils.files import WriteError, whole_file
from convnext_mm.utils.parameters import plain_name

#: ``backend_args`` that make mmengine write by ``AtomicBackend``.
ATOMIC = dict(backend='convnext_mm')
#: Name of an interrupted run's checkpoint, by iteration.
INTERRUPTED = 'interrupted_iter_{}.pth'
#: Key of mmengine's message hub: iteration of the last validation whose effects (schedule, best score) the state has.
VALIDATED = 'validated_iter'
#: The same: samples drawn in the unfinished epoch, or since the start in the loop without epochs.
DRAWN = 'samples_drawn'


class AtomicBackend(LocalBackend):
    """mmengine's backend for local files, except that a file gets its name only when it is whole."""

    def put(self, obj: bytes, filepath) -> None:
        """Write the bytes of ``torch.save``.

        Raises:
            RunStopped: The disk is full, or the file cannot be written; earlier checkpoints are untouched.
        """
        try:
            with whole_file(filepath, durable=True) as temporary:
                temporary.write_bytes(obj)
        except WriteError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            cause = 'the disk is full' if full else os.strerror(error.errno or errno.EIO)
            raise RunStopped(f'checkpoint {str(filepath)!r} cannot be written: {cause}; the ones before it are whole: '
                             'make room and go on from them with --resume auto') from error


register_backend('convnext_mm', AtomicBackend)


def _check_room(model, folder):
    """Raise a ``UserError`` where the disk has no room for one checkpoint."""
    # Weights and buffers, and two moments of every trained parameter. A sharded model's state dict is the whole one.
    trained = {plain_name(name) for name, p in model.named_parameters() if p.requires_grad}
    need = sum(t.numel() * t.element_size() * (3 if plain_name(name) in trained else 1)
               for name, t in model.state_dict().items())
    free = shutil.disk_usage(folder).free
    if free < need:
        raise UserError(f'work dir {str(folder)!r} is on a disk with {free / 1e9:.1f} GB left; a checkpoint takes '
                        f'about {need / 1e9:.1f} GB: make room, or choose another with --work-dir')


class _LateRemoval:
    """A file backend that keeps files to remove in a list until ``flush``."""

    def __init__(self, backend):
        self._backend, self._files = backend, []

    def remove(self, filepath):
        self._files.append(filepath)

    def flush(self):
        while self._files:
            self._backend.remove(self._files.pop())

    def __getattr__(self, name):
        return getattr(self._backend, name)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook, except that it writes a checkpoint whole or not at all, and removes outdated ones afterwards.

    Args:
        args, kwargs: Those of mmengine's hook.

    Source: `open-mmlab/mmengine` ``hooks/checkpoint_hook.py``, which removes the oldest file before it writes the
    newest.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = ATOMIC

    def before_train(self, runner):
        """Do what mmengine's hook does, and raise a ``UserError`` where the disk has no room for a checkpoint."""
        super().before_train(runner)
        if self.backend_args is ATOMIC:
            _check_room(runner.model, self.out_dir)
        self.file_backend = _LateRemoval(self.file_backend)

    def _save_checkpoint_with_step(self, runner, step, meta):
        super()._save_checkpoint_with_step(runner, step, meta)
        self._clean(runner)

    def _save_best_checkpoint(self, runner, metrics):
        # mmengine calls this at the end of a validation. After a better score it writes the run's state once more.
        runner.message_hub.update_info(VALIDATED, runner.iter)
        super()._save_best_checkpoint(runner, metrics)
        self._clean(runner)

    def _clean(self, runner):
        if not is_main_process():
            # The main process may still be writing.
            return
        self.file_backend.flush()
        for interrupted in Path(runner.work_dir).glob(INTERRUPTED.format('*')):
            # DeepSpeed writes folders.
            (shutil.rmtree if interrupted.is_dir() else Path.unlink)(interrupted)
