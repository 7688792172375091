"""Training data whose random augmentations depend only on the place of a sample in the run.

mm's workers seed their generators once, when they start. So a run that was interrupted would see other crops than one
that was not. Here the batch sampler gives every sample a seed (the run's seed, the process's rank, the epoch and the
place in it), and the worker seeds its generators with it before it loads the sample. A run can then go on from any
step, with any number of workers.
"""
import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Draw(NamedTuple):
    """A request to a worker: the index of a sample in the data set, the number of its batch, and its seed."""

    index: Any
    batch: int
    seed: tuple


def seed_generators(*key: int) -> None:
    """Seed the global generators of Python, NumPy and torch (of all devices) with numbers such as seed, rank, step."""
    python, numpy_seed, *torch_seed = np.random.SeedSequence(key).generate_state(4).tolist()
    random.seed(python)
    np.random.seed(numpy_seed)
    torch.manual_seed(torch_seed[0] << 32 | torch_seed[1])


class SeededDataset(Dataset):
    """A data set that takes a ``Draw`` and returns (number of the batch, sample).

    All other attributes are those of the data set inside, for reading and writing.
    """

    def __init__(self, dataset):
        self.__dict__['dataset'] = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, draw):
        seed_generators(*draw.seed)
        return draw.batch, self.dataset[draw.index]

    def __getattr__(self, name):
        # While this object is unpickled it has no data set yet, and asking for one would never end.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name, value):
        # Hooks that switch pipelines set attributes of the data set.
        setattr(self.dataset, name, value)


class StepSampler:
    """Group the batches of a batch sampler into optimizer steps, from any step of an epoch on.

    Args:
        batch_sampler (Iterable): Yields lists of indices; one that ends is iterated again for each epoch.
        accumulation (int): Batches in a step. The last step of an epoch may have fewer.
        key (tuple[int]): The run's seed and the process's rank.
    """

    def __init__(self, batch_sampler, accumulation, key):
        self.batch_sampler, self.accumulation, self.key = batch_sampler, accumulation, key
        self.epoch, self.first_step = 0, 0

    @property
    def sampler(self):
        """Return the sampler of indices; mmengine sets the epoch on it."""
        return self.batch_sampler.sampler

    @property
    def batch_size(self):
        """Return the number of samples in a batch, not in a step."""
        return self.batch_sampler.batch_size

    def start(self, epoch, first_step=0):
        """Set the epoch and the first step of the next iteration over this sampler."""
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
    """Collate the samples of an optimizer step into a list of batches."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, samples):
        batches = {}
        for batch, sample in samples:
            batches.setdefault(batch, []).append(sample)
        return [self.collate(batch) for batch in batches.values()]


def step_loader(loader: DataLoader, accumulation: int, seed: int, rank: int) -> DataLoader:
    """Return a loader of the same data whose items are lists of batches, one list per optimizer step.

    Args:
        loader (DataLoader): Made by mmengine's ``Runner.build_dataloader``.
        accumulation (int): Batches in a step.
        seed (int): Of the run.
        rank (int): Of this process.
    """
    workers = dict(persistent_workers=loader.persistent_workers, prefetch_factor=loader.prefetch_factor,
                   multiprocessing_context=loader.multiprocessing_context) if loader.num_workers else {}
    return DataLoader(
        SeededDataset(loader.dataset), batch_sampler=StepSampler(loader.batch_sampler, accumulation, (seed, rank)),
        num_workers=loader.num_workers, collate_fn=StepCollate(loader.collate_fn), pin_memory=loader.pin_memory,
        timeout=loader.timeout, worker_init_fn=loader.worker_init_fn, **workers)
