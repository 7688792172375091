"""A model and data of a few numbers, for tests of everything around a training step; needs mmengine alone."""
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

SAMPLES = 10
# mmengine keeps one instance for each name of an experiment.
_COUNT = itertools.count()


class ToyData(torch.utils.data.Dataset):
    """Ten samples; each access adds noise from the global generators of NumPy, Python and torch."""

    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        import random
        noise = np.random.rand() + random.random() + torch.rand(()).item()
        return dict(inputs=torch.full((3,), index / SAMPLES + noise),
                    data_samples=BaseDataElement(metainfo=dict(img_path=f'images/{index}.jpg')))


class ToyModel(BaseModel):
    """A linear layer after dropout; ``wrong`` maps training iterations to what is not finite in them."""

    def __init__(self, wrong=()):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.wrong, self.calls = dict(wrong), 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = self.linear(F.dropout(torch.stack(inputs), .3, self.training))
        if mode == 'predict':
            return data_samples
        loss = x.pow(2).mean()
        wrong = self.wrong.get(self.calls)
        self.calls += 1
        if wrong == 'loss':
            loss = loss * float('nan')
        if wrong == 'gradient':
            # A finite loss whose gradient is not.
            loss = loss + (self.linear.weight.sum() * 0).sqrt()
        return dict(loss=loss)


def build_runner(work_dir, train_cfg, hooks=(), model=ToyModel, workers=0, batch_size=2, by_epoch=True, **settings):
    """Return a runner of the toy with this project's hooks, which logs the loss of each iteration."""
    torch.manual_seed(0)
    return Runner(
        model(), str(work_dir),
        train_dataloader=dict(dataset=ToyData(), batch_size=batch_size, num_workers=workers, sampler=dict(
            type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)),
        train_cfg=dict(type=f'convnext_mm.{"Epoch" if by_epoch else "Iter"}BasedTrainLoop', **train_cfg),
        optim_wrapper=settings.pop('optim_wrapper', dict(optimizer=dict(type='AdamW', lr=.1))),
        param_scheduler=settings.pop('param_scheduler', [
            dict(type='LinearLR', start_factor=.1, by_epoch=False, begin=0, end=9)]),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint={**dict(type='convnext_mm.CheckpointHook', interval=3, by_epoch=False, max_keep_ckpts=1),
                        **settings.pop('checkpoint', {})}),
        custom_hooks=[dict(type='convnext_mm.SafeCheckpointHook'), *hooks], randomness=dict(seed=3),
        experiment_name=f'toy{next(_COUNT)}', default_scope='mmengine', **settings)
