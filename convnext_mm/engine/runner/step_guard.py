"""Steps whose loss or gradients are not finite: not applied, and too many of them in a row stop the run."""
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
    """Stands before an optimizer wrapper's step, and lets only finite ones through.

    A step that torch's gradient scaler skips while it looks for its scale does not count as one that went wrong; with
    a loss that is not finite, or with a scale that cannot fall further, it does.

    Args:
        runner (Runner): Ready to train.
        limit (int): Steps in a row that stop the run.
    """

    def __init__(self, runner, limit):
        self._runner, self._limit = runner, limit
        self._in_a_row, self._norms = 0, deque(maxlen=max(limit, 5))
        self._loss = None
        self._wrapper = runner.optim_wrapper
        if isinstance(self._wrapper, OptimWrapper):
            self._backward, self._step = self._wrapper.backward, self._wrapper.step
            # With the marks that mmengine's schedulers put on the step.
            self._wrapper.step = functools.wraps(self._step)(lambda **kwargs: self._guarded_step(**kwargs))
            self._wrapper.backward = self._guarded_backward

    def _guarded_backward(self, loss, **kwargs):
        value = loss.detach()
        self._loss = value if self._loss is None else self._loss + value
        self._backward(loss, **kwargs)

    def _guarded_step(self, **kwargs):
        loss, self._loss = self._loss, None
        norm = _norm([p.grad for group in self._wrapper.optimizer.param_groups for p in group['params']
                      if p.grad is not None], like=loss)
        if isinstance(self._runner.model, FullyShardedDataParallel):
            # In float64, which the squares do not leave.
            squared = norm.double().square()
            all_reduce(squared)
            norm = squared.sqrt()
        wrong = torch.stack([~loss.isfinite(), ~norm.isfinite()]).float()
        # Losses differ between processes; all of them skip a step, or none.
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
            # The scaler skips the step itself, and lowers its scale.
            self._step(**kwargs)
        if settling:
            return
        self._in_a_row += 1
        print_log(f'Iteration {self._runner.iter + 1}: {"loss" if loss_wrong else "gradients"} not finite, the step is '
                  f'not applied ({self._in_a_row} in a row; {self._limit} stop the run)', logger='current')

    def stop_if_needed(self, batches):
        """Stop the run after too many such steps, leaving a checkpoint from which the last one can be repeated.

        Args:
            batches (list[dict]): The data of the step.

        Raises:
            RunStopped: Naming the iteration, the images, the norms of the gradients and the command that repeats it.
        """
        if self._in_a_row < self._limit:
            return
        runner, name = self._runner, f'nonfinite_iter_{self._runner.iter + 1}.pth'
        # Before the step is counted: resumed from, this file begins with it.
        runner.save_checkpoint(runner.work_dir, name, meta=dict(epoch=runner.epoch, iter=runner.iter), by_epoch=False,
                               backend_args=ATOMIC)
        # A process that ends has the others ended by the launcher, the one that writes among them.
        barrier()
        images = [os.path.basename(getattr(sample, 'img_path', '?')) for batch in batches
                  for sample in batch.get('data_samples', [])]
        config = os.path.join(runner.work_dir, os.path.basename(runner.cfg.filename or f'{runner.timestamp}.py'))
        raise RunStopped(
            f'loss or gradients were not finite for {self._in_a_row} steps in a row, up to iteration {runner.iter + 1} '
            f'(images {", ".join(images)}; last gradient norms {", ".join(f"{n:.3g}" for n in self._norms)}); repeat '
            f'that step with: python tools/train.py {config} --resume {os.path.join(runner.work_dir, name)} '
            f'--work-dir {os.path.join(runner.work_dir, "nonfinite")}')


def _norm(gradients, like):
    """The norm of all gradients together, on the device of ``like``."""
    if not gradients:
        return torch.zeros_like(like)
    norms = [norm.to(like.device, torch.float32) for norm in torch._foreach_norm(gradients)]
    return torch.linalg.vector_norm(torch.stack(norms))
