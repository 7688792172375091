"""Every run logs the rates of its layers to every backend, and to TensorBoard where that is installed."""
import builtins
import json
import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from convnext_mm import ConvNeXt
from convnext_mm.engine.hooks.layer_rates import layer_rates
from convnext_mm.published.paper import published
from convnext_mm.visualization.tensorboard import TensorboardVisBackend
from tests.helpers.paths import ROOT

CONSTRUCTOR = 'convnext_mm.LayerDecayOptimWrapperConstructor'
RUNTIME = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py')


class Classifier(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = ConvNeXt(dict(depths=(1, 1, 4, 1), channels=(4, 4, 4, 4)), out_indices=(3,))
        self.head = torch.nn.Linear(4, 2)

    def forward(self, inputs, targets, mode='tensor'):
        scores = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        return dict(loss=torch.nn.functional.cross_entropy(scores, targets)) if mode == 'loss' else scores


class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(count=len(results))


def wrapper(**paramwise):
    return build_optim_wrapper(Classifier(), dict(
        optimizer=dict(type='AdamW', lr=1e-2), constructor=CONSTRUCTOR,
        paramwise_cfg=dict(decay_rate=.5, **paramwise)))


def test_rates_of_layers():
    assert layer_rates(wrapper()) == {f'lr/layer_{i:02d}': pytest.approx(1e-2 * .5 ** (6 - i)) for i in range(7)}


def test_a_part_with_a_rate_of_its_own_is_named():
    optim = wrapper(custom_keys={'head': dict(lr_mult=10), 'backbone.norm': dict(lr_mult=.25)})
    rates = {name: rate for name, rate in layer_rates(optim).items() if 'layer_06' in name}
    assert rates == {'lr/layer_06_x10': pytest.approx(.1), 'lr/layer_06_x0.25': pytest.approx(.0025)}
    for group in optim.optimizer.param_groups:
        group['initial_lr'], group['lr'] = group['lr'], group['lr'] / 7
    assert layer_rates(optim)['lr/layer_06_x10'] == pytest.approx(.1 / 7), 'a schedule changes no name'


def test_other_optimizers_have_no_layers():
    optim = build_optim_wrapper(Classifier(), dict(optimizer=dict(type='SGD', lr=.1)))
    assert layer_rates(optim) == {}


DECAY = dict(constructor=CONSTRUCTOR, paramwise_cfg=dict(decay_rate=.5))


def run(folder, decay=DECAY, iterations=5):
    """Train for some iterations with the runtime of the configs, logging every second one."""
    data = [(torch.rand(3, 32, 32), i % 2) for i in range(8)]
    loader = dict(batch_size=2, num_workers=0, dataset=data, sampler=dict(type='InfiniteSampler', shuffle=False),
                  collate_fn=dict(type='default_collate'))
    hooks = RUNTIME.default_hooks.to_dict()
    hooks['logger'].update(interval=2)
    runner = Runner(
        Classifier(), str(folder), train_dataloader=loader,
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations), val_cfg=dict(),
        val_evaluator=[Count()],
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2), **decay),
        param_scheduler=dict(type='LinearLR', start_factor=.1, by_epoch=False, begin=0, end=5),
        default_hooks=hooks, custom_hooks=RUNTIME.custom_hooks,
        visualizer=dict(RUNTIME.visualizer.to_dict(), type='Visualizer', name=folder.name),
        log_processor=dict(by_epoch=False), default_scope='mmengine', experiment_name=folder.name)
    runner.train()
    file, = folder.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()], file.parent


def test_a_run_logs_the_rates_of_its_layers(tmp_path):
    lines, folder = run(tmp_path / 'layers')
    rates = [line for line in lines if 'lr/layer_00' in line]
    assert [line['step'] for line in rates] == [2, 4, 5], 'as often as the losses, and at the end'
    assert all(len(line) == 8 for line in rates)
    losses = {line['step']: line for line in lines if 'loss' in line}
    for line in rates[:2]:
        # The heads train at the base rate, the stem at the first group's.
        assert line['lr/layer_06'] == pytest.approx(losses[line['step']]['base_lr'])
        assert line['lr/layer_00'] == pytest.approx(losses[line['step']]['lr'])
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {'loss', 'base_lr', 'count', *(f'lr/layer_{i:02d}' for i in range(7))} <= set(events.Tags()['scalars'])
    logged = [(event.step, pytest.approx(event.value)) for event in events.Scalars('lr/layer_03')]
    assert [(line['step'], line['lr/layer_03']) for line in rates] == logged


def test_a_run_without_layer_decay_goes_on(tmp_path):
    lines, _ = run(tmp_path / 'plain', decay={}, iterations=2)
    assert any('loss' in line for line in lines) and not any('lr/layer_00' in line for line in lines)


def test_without_tensorboard_a_run_goes_on_and_says_so(tmp_path, monkeypatch):
    original, records = builtins.__import__, []

    def without(name, *args, **kwargs):
        if name.startswith(('torch.utils.tensorboard', 'tensorboard')):
            raise ImportError(name)
        return original(name, *args, **kwargs)
    monkeypatch.setattr(builtins, '__import__', without)
    handler = logging.Handler()
    handler.emit = records.append
    MMLogger.get_instance('without_tensorboard').addHandler(handler)
    backend = TensorboardVisBackend(str(tmp_path))
    backend.add_scalars(dict(loss=1.), step=1)
    backend.add_config(Config(dict(a=1)))
    backend.close()
    said = [record.getMessage() for record in records if 'TensorBoard' in record.getMessage()]
    assert said == ['No TensorBoard logs: tensorboard is not installed (pip install tensorboard)']


CONFIGS = [*(row['config'] for row in published()['coco'] + published()['ade20k']),
           'demo/cascade.py', 'demo/upernet.py']


@pytest.mark.parametrize('config', CONFIGS)
def test_every_config_logs_to_tensorboard(config):
    cfg = Config.fromfile(ROOT / 'configs' / config)
    assert [backend.type for backend in cfg.visualizer.vis_backends] == [
        'LocalVisBackend', 'convnext_mm.TensorboardVisBackend']
    assert cfg.default_hooks.layer_rates.type == 'convnext_mm.LayerRateHook'


def test_another_backend_by_option():
    cfg = Config.fromfile(ROOT / 'configs' / CONFIGS[0])
    cfg.merge_from_dict({'visualizer.vis_backends.1.type': 'WandbVisBackend'})
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ['LocalVisBackend', 'WandbVisBackend']
    assert cfg.visualizer.type == 'DetLocalVisualizer'
