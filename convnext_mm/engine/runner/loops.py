"""Training loops that count optimizer steps and go on exactly where a run stopped.

An iteration is one optimizer step. It takes one batch, or several whose gradients are accumulated. Schedules,
validation, checkpoints and logs count these steps, whatever the number of GPUs.

A resumed run sees the same data and the same random numbers as a run that was never interrupted: the random numbers of
a step follow from the run's seed and the step's number, and a checkpoint holds the place in the data (in mmengine's
message hub).

Source: `open-mmlab/mmengine` ``runner/loops.py``. The loops call the same hooks in the same order.
"""
import torch.nn as nn
from mmengine.dist import get_rank, get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from torch.utils.data import DataLoader

from convnext_mm.engine.hooks.checkpoint import DRAWN, VALIDATED
from convnext_mm.engine.run_status import read_status, update_status
from convnext_mm.engine.runner.seeded_data import seed_generators, step_loader
from convnext_mm.engine.runner.step_guard import StepGuard
from convnext_mm.registry import LOOPS


class _StepLoop:
    """Base of both loops: how a step is done, and when a validation is due.

    Args:
        runner (Runner): mmengine's.
        dataloader (dict | DataLoader): The training data.
        accumulation (int): Batches in an optimizer step. Defaults to 1.
        max_nonfinite (int): Stop the run after this many steps in a row without a finite loss and finite gradients.
            Defaults to 3.
        kwargs: Those of mmengine's loop.
    """

    def __init__(self, runner, dataloader, accumulation=1, max_nonfinite=3, **kwargs):
        if isinstance(dataloader, dict):
            dataloader = runner.build_dataloader(dataloader, seed=runner.seed)
        # mmengine's loop may start the loader's workers at once, before the first step is known. So it gets a loader
        # without workers, which is replaced below.
        super().__init__(runner, DataLoader(dataloader.dataset), **kwargs)
        self.dataloader_iterator = None
        self.dataloader = step_loader(dataloader, accumulation, runner.seed, get_rank())
        batch_size = getattr(dataloader.batch_sampler, 'batch_size', 1)
        self.samples_per_step = batch_size * accumulation * get_world_size()
        self._accumulation, self._max_nonfinite = accumulation, max_nonfinite

    def _first_step(self, default):
        """Return how many steps are done, of the epoch or since the start; ``default`` in a new run.

        Checkpoints count samples, because the batch size may be another one after resuming.
        """
        drawn = self.runner.message_hub.runtime_info.get(DRAWN)
        return default if drawn is None else drawn // self.samples_per_step

    def _note_steps(self, steps):
        """Store how many steps are done, of the epoch or since the start, for the next checkpoint."""
        self.runner.message_hub.update_info(DRAWN, steps * self.samples_per_step)

    def _start(self):
        """Prepare the first step, and call the hooks before it."""
        self._guard = StepGuard(self.runner, self._max_nonfinite)
        # The last checkpoint of a run is written before its last validation. Only the status file tells whether that
        # validation was finished.
        self._validated_before = read_status(self.runner.work_dir).get('validated') == self._iter
        self._first_iter = self._iter
        self.runner.call_hook('before_train')

    def _run_step(self, batches, place, done):
        """Do one optimizer step.

        Args:
            batches (list): The batches of the step.
            place (int): The ``batch_idx`` that hooks get.
            done (int): Steps done after this one, counted as ``_first_step`` does.
        """
        runner = self.runner
        seed_generators(runner.seed, get_rank(), self._iter)
        runner.call_hook('before_train_iter', batch_idx=place, data_batch=batches[-1])
        if self._accumulation > 1 and isinstance(runner.optim_wrapper, OptimWrapper):
            # Tell mmengine that these batches are all, so that it averages their gradients over their number also in
            # the last step of an epoch, which may have fewer. mmengine looks at the model only to warn of BatchNorm:
            # give it one without, or it warns at every step.
            runner.optim_wrapper.initialize_count_status(nn.Identity(), 0, len(batches))
        parts = [runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper) for batch in batches]
        self._guard.stop_if_needed(batches)
        outputs = {key: sum(part[key] for part in parts) / len(parts) for key in parts[0]}
        self._note_steps(done)
        runner.call_hook('after_train_iter', batch_idx=place, data_batch=batches[-1], outputs=outputs)
        self._iter += 1

    def _validate_if_due(self, count, total):
        """Validate after ``count`` of ``total`` epochs or iterations, if a validation is due and has not been done.

        A validation may change the schedule and the best score. So a resumed run repeats a validation that its
        checkpoint does not know, except at the end of the run, where nothing follows.
        """
        self._decide_current_val_interval()
        due = count >= self.val_begin and (count % self.val_interval == 0 or count == total)
        in_state = self.runner.message_hub.runtime_info.get(VALIDATED) == self._iter
        before_resuming = self._validated_before and self._iter == self._first_iter
        done = in_state or (count == total and before_resuming)
        if self.runner.val_loop is not None and due and not done:
            self.runner.val_loop.run()
            self.runner.message_hub.update_info(VALIDATED, self._iter)
            update_status(self.runner.work_dir, validated=self._iter)


@LOOPS.register_module()
class EpochBasedTrainLoop(_StepLoop, MMEngineEpochBasedTrainLoop):
    """Train by epochs, and resume in the middle of one; arguments as in ``_StepLoop``."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._max_iters = self._max_epochs * len(self.dataloader)

    def run(self):
        """Train from the start, or from the step after the resumed checkpoint."""
        self._start()
        first = self._first_step(default=0)
        if self._epoch and not first:
            self._validate_if_due(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self._run_epoch_from(first)
            first = 0
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def _run_epoch_from(self, first):
        """Train the rest of an epoch, whose first ``first`` steps are done."""
        self.dataloader.batch_sampler.start(self._epoch, first)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for step, batches in enumerate(self.dataloader, first):
            self._run_step(batches, step, step + 1)
        self._note_steps(0)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class IterBasedTrainLoop(_StepLoop, MMEngineIterBasedTrainLoop):
    """Train by iterations on an endless stream of data; arguments as in ``_StepLoop``."""

    def run(self):
        """Train from the start, or from the step after the resumed checkpoint."""
        self._start()
        self.runner.call_hook('before_train_epoch')
        if self._iter:
            self._validate_if_due(self._iter, self._max_iters)
        first = self._first_step(default=self._iter)
        for done, batches in enumerate(self._stream(first), first + 1):
            if self._iter >= self._max_iters or self.stop_training:
                break
            self.runner.model.train()
            self._run_step(batches, self._iter, done)
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _stream(self, first):
        """Yield the batches of each step from number ``first`` on, and start a sampler that ends again."""
        sampler, epoch = self.dataloader.batch_sampler, 0
        while True:
            if hasattr(sampler.sampler, 'set_epoch'):
                sampler.sampler.set_epoch(epoch)
            sampler.start(epoch, first)
            yield from self.dataloader
            epoch, first = epoch + 1, max(first - len(self.dataloader), 0)
