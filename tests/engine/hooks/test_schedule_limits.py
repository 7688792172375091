"""Training warns once of a schedule that lifts the rates of layer decay, with both values and what to set."""
import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from convnext_mm.engine.hooks.schedule_limits import ScheduleLimitHook
from convnext_mm.models.convnext import ConvNeXt


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = ConvNeXt(arch=dict(depths=[1, 1, 1, 1], channels=[2, 2, 2, 2]))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=sum(parameter.sum() for parameter in self.parameters()))


class Last(Hook):
    """Keeps the rates of the last iteration."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.rates = [group['lr'] for group in runner.optim_wrapper.optimizer.param_groups]


def train(folder, monkeypatch, schedule):
    """Train for 9 iterations; return (warnings, rates at the start, rates at the last iteration)."""
    told = []
    monkeypatch.setattr('convnext_mm.engine.hooks.schedule_limits.print_log',
                        lambda message, logger, level: told.append((message, level)))
    cfg = Config(dict(
        train_cfg=dict(by_epoch=False, max_iters=9), param_scheduler=schedule, optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=1e-3), constructor='convnext_mm.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(decay_rate=.5)), default_scope='mmengine'))
    # mmengine keeps its loggers by the name of the experiment.
    runner = Runner(Model(), str(folder), experiment_name=folder.name, cfg=cfg,
                    train_dataloader=torch.utils.data.DataLoader([dict(inputs=torch.zeros(1))] * 9), **{
                        name: cfg[name] for name in ('train_cfg', 'param_scheduler', 'optim_wrapper')})
    last = Last()
    runner.register_hook(ScheduleLimitHook())
    runner.register_hook(last, priority='VERY_HIGH')
    runner.train()
    return told, [1e-3 * group['lr_scale'] for group in runner.optim_wrapper.optimizer.param_groups], last.rates


COSINE = dict(type='CosineAnnealingLR', by_epoch=False, T_max=8)


@pytest.mark.parametrize(('schedule', 'parts'), [
    ([dict(COSINE, eta_min=1e-4)], ['param_scheduler.0 (CosineAnnealingLR) has eta_min=0.0001, but ', '3.13e-05',
                                    'param_scheduler.0.eta_min_ratio=0.1']),
    (dict(COSINE, eta_min=1e-4), ['param_scheduler (CosineAnnealingLR)']),
    ([dict(type='OneCycleLR', by_epoch=False, eta_max=1e-3, total_steps=9)], ['(OneCycleLR) has eta_max=0.001']),
    ([dict(COSINE, eta_min_ratio=.1)], []), ([dict(COSINE, eta_min=1e-6)], []), ([], [])], ids=str)
def test_the_warning(schedule, parts, tmp_path, monkeypatch):
    told, starts, last = train(tmp_path, monkeypatch, schedule)
    assert len(told) == bool(parts), told
    for part in parts:
        assert part in told[0][0]
    assert all(level == logging.WARNING for _, level in told)
    # Poor schedules are those that a run of mmengine shows as poor.
    rising = any(end > start * (1 + 1e-6) for end, start in zip(last, starts))
    assert rising == bool(parts and 'OneCycle' not in parts[0])
