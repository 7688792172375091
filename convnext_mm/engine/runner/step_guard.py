"""Skip steps whose loss or gradients are not finite, and stop the run after too many of them in a row."""
import functools
import os
from collections import deque

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch.distributed.fsdp import FullyShardedDataParallel

from convnext_mm.engine.hooks.checkpoint import ATOMIC
from convnext_mm.utils.errors import RunStopped


class StepGuard:
    """Apply only optimizer steps with a finite loss and finite gradients, and count the others.

    torch's gradient scaler skips steps itself while it looks for its scale. Such a step counts only if the loss is not
    finite, or if the scale cannot fall further.

    The guard replaces ``backward`` and ``step`` of the run's optimizer wrapper, on that object alone. No extension
    point will do: mmengine calls no hook between the gradients and the step, torch's step hooks cannot skip a step,
    and a wrapper class of our own would have to exist for each wrapper that a config may choose.

    Args:
        runner (Runner): Ready to train.
        limit (int): Number of steps in a row that stop the run.
    """

    def __init__(self, runner, limit: int):
        self._runner, self._limit = runner, limit
        self._in_a_row = 0
        self._norms: deque[float] = deque(maxlen=max(limit, 5))
        self._loss = None
        self._wrapper = runner.optim_wrapper
        if isinstance(self._wrapper, OptimWrapper):
            self._backward, self._step = self._wrapper.backward, self._wrapper.step
            # torch's schedulers mark the method that they find: copy the marks.
            self._wrapper.step = functools.wraps(self._step)(lambda **kwargs: self._guarded_step(**kwargs))
            self._wrapper.backward = self._guarded_backward

    def _guarded_backward(self, loss, **kwargs):
        """Add the loss to that of the step, then do what the wrapper does."""
        value = loss.detach()
        self._loss = value if self._loss is None else self._loss + value
        self._backward(loss, **kwargs)

    def _guarded_step(self, **kwargs):
        """Do the wrapper's step if everything is finite in all processes; otherwise count it."""
        loss, self._loss = self._loss, None
        norm = self._gradient_norm(like=loss)
        wrong = torch.stack([~loss.isfinite(), ~norm.isfinite()]).float()
        # Losses differ between processes, but all of them must skip the step, or none.
        all_reduce(wrong, op='max')
        loss_wrong, gradients_wrong = wrong.bool().tolist()
        scaler = getattr(self._wrapper, 'loss_scaler', None)
        self._norms.append(norm.item() / (scaler.get_scale() if scaler else 1))
        if not loss_wrong and not gradients_wrong:
            self._in_a_row = 0
            self._step(**kwargs)
            return
        settling = scaler is not None and not loss_wrong and scaler.get_scale() > 1
        if scaler is not None and gradients_wrong:
            # The scaler skips this step itself, and lowers its scale.
            self._step(**kwargs)
        if settling:
            return
        self._in_a_row += 1
        print_log(f'Iteration {self._runner.iter + 1}: {"loss" if loss_wrong else "gradients"} not finite, the step is '
                  f'not applied ({self._in_a_row} in a row; {self._limit} stop the run)', logger='current')

    def _gradient_norm(self, like):
        """Return the norm of all gradients together, on the device of ``like``."""
        gradients = [p.grad for group in self._wrapper.optimizer.param_groups for p in group['params']
                     if p.grad is not None]
        norm = torch.zeros_like(like)
        if gradients:
            norms = [norm.to(like.device, torch.float32) for norm in torch._foreach_norm(gradients)]
            norm = torch.linalg.vector_norm(torch.stack(norms))
        if isinstance(self._runner.model, FullyShardedDataParallel):
            # Each process has the gradients of its shards. Squares of float32 numbers fit into float64.
            squared = norm.double().square()
            all_reduce(squared)
            norm = squared.sqrt()
        return norm

    def stop_if_needed(self, batches: list) -> None:
        """Stop the run after too many skipped steps, with a checkpoint from which the last one can be repeated.

        Args:
            batches (list[dict]): The data of the step.

        Raises:
            RunStopped: The message names the iteration, the images, the norms of the gradients and the command that
                repeats the step.
        """
        if self._in_a_row < self._limit:
            return
        runner, name = self._runner, f'nonfinite_iter_{self._runner.iter + 1}.pth'
        # The step is not counted yet, so a run that resumes from this file begins with it.
        runner.save_checkpoint(runner.work_dir, name, meta=dict(epoch=runner.epoch, iter=runner.iter), by_epoch=False,
                               backend_args=ATOMIC)
        # A launcher kills all processes when one ends: wait until the main process has written the file.
        barrier()
        images = [os.path.basename(getattr(sample, 'img_path', '?')) for batch in batches
                  for sample in batch.get('data_samples', [])]
        config = os.path.join(runner.work_dir, os.path.basename(runner.cfg.filename or f'{runner.timestamp}.py'))
        raise RunStopped(
            f'loss or gradients were not finite for {self._in_a_row} steps in a row, up to iteration {runner.iter + 1} '
            f'(images {", ".join(images)}; last gradient norms {", ".join(f"{n:.3g}" for n in self._norms)}); repeat '
            f'that step with: python -m convnext_mm train {config} --resume {os.path.join(runner.work_dir, name)} '
            f'--work-dir {os.path.join(runner.work_dir, "nonfinite")}')
