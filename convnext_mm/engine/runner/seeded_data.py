"""Training data whose randomness depends on where a sample stands in the run, and on nothing else.

mm's workers draw from generators that live as long as they do, so a run that was interrupted sees other crops than one
that was not. Here the batch sampler hands every sample a seed made of the run's seed, the process's rank, the epoch
and the place in it, and the worker starts its generators from it. A run can then go on from any step with any number of
workers.
"""
import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader


class Draw(NamedTuple):
    """What a worker is asked for: the sample's index in the data set, the batch it belongs to, its seed."""

    index: Any
    batch: int
    seed: tuple


def seed_generators(*key):
    """Start Python's, NumPy's and torch's generators (each device's) from whole numbers, as ``seed, rank, step``."""
    python, numpy_seed, *torch_seed = np.random.SeedSequence(key).generate_state(4).tolist()
    random.seed(python)
    np.random.seed(numpy_seed)
    torch.manual_seed(torch_seed[0] << 32 | torch_seed[1])


class SeededDataset:
    """A data set that takes a ``Draw`` and returns (number of the batch, sample); else the data set it holds."""

    def __init__(self, dataset):
        self.__dict__['dataset'] = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, draw):
        seed_generators(*draw.seed)
        return draw.batch, self.dataset[draw.index]

    def __getattr__(self, name):
        # Not found on this object; while it is unpickled there is no data set yet.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name, value):
        # Hooks that switch pipelines set them here.
        setattr(self.dataset, name, value)


class StepSampler:
    """Groups the batches of a batch sampler into optimizer steps, and can start behind the first steps of an epoch.

    Args:
        batch_sampler (Iterable): Yields lists of indices; finite ones are started anew for each epoch.
        accumulation (int): Batches in a step. The last step of an epoch takes what is left.
        key (tuple[int]): The run's seed and the process's rank.
    """

    def __init__(self, batch_sampler, accumulation, key):
        self.batch_sampler, self.accumulation, self.key = batch_sampler, accumulation, key
        self.epoch, self.first_step = 0, 0

    @property
    def sampler(self):
        """The sampler of indices, on which mmengine sets the epoch."""
        return self.batch_sampler.sampler

    @property
    def batch_size(self):
        """Samples in a batch, of which a step may have several."""
        return self.batch_sampler.batch_size

    def start(self, epoch, first_step=0):
        """Let the next iteration be of ``epoch``, from ``first_step`` on."""
        self.epoch, self.first_step = epoch, first_step

    def __len__(self):
        return -(-len(self.batch_sampler) // self.accumulation)

    def __iter__(self):
        skipped, step = self.first_step * self.accumulation, []
        for number, batch in enumerate(self.batch_sampler):
            if number < skipped:
                continue
            step += [Draw(index, number, (*self.key, self.epoch, number, place)) for place, index in enumerate(batch)]
            if (number + 1) % self.accumulation == 0:
                yield step
                step = []
        if step:
            yield step


class StepCollate:
    """Makes a list of batches, one per micro-step, of the samples of an optimizer step."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, samples):
        batches = {}
        for batch, sample in samples:
            batches.setdefault(batch, []).append(sample)
        return [self.collate(batch) for batch in batches.values()]


def step_loader(loader, accumulation, seed, rank):
    """A ``DataLoader`` like ``loader`` whose items are lists of batches, one list per optimizer step.

    Args:
        loader (DataLoader): As mmengine's ``Runner.build_dataloader`` makes it.
        accumulation (int): Batches in a step.
        seed (int): The run's.
        rank (int): This process's.
    """
    workers = dict(persistent_workers=loader.persistent_workers, prefetch_factor=loader.prefetch_factor,
                   multiprocessing_context=loader.multiprocessing_context) if loader.num_workers else {}
    return DataLoader(
        SeededDataset(loader.dataset), batch_sampler=StepSampler(loader.batch_sampler, accumulation, (seed, rank)),
        num_workers=loader.num_workers, collate_fn=StepCollate(loader.collate_fn), pin_memory=loader.pin_memory,
        timeout=loader.timeout, worker_init_fn=loader.worker_init_fn, **workers)
