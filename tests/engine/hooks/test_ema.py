"""The moving average follows each optimizer step, and both it and the weights are validated and kept."""
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS

from tests.helpers.toy import ToyData, build_runner


@METRICS.register_module()
class WeightSum(BaseMetric):
    """The sum of the weights that the last prediction was made with."""

    model = None

    def process(self, data_batch, data_samples):
        self.results.append(float(self.model.linear.weight.sum()))

    def compute_metrics(self, results):
        return dict(sum=results[-1])


class Watch(Hook):
    """Notes the weights after every optimizer step, and the metrics of every validation."""

    priority = 'LOWEST'

    def __init__(self):
        self.weights, self.metrics = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.weights.append(runner.model.linear.weight.detach().clone())

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


def average(weights, momentum):
    mean = weights[0]
    for weight in weights[1:]:
        mean = mean + momentum * (weight - mean)
    return mean


@pytest.mark.parametrize('accumulation', [1, 2])
def test_average_and_weights(tmp_path, accumulation):
    watch = Watch()
    runner = build_runner(
        tmp_path, dict(max_epochs=2, accumulation=accumulation, val_interval=1), batch_size=2,
        hooks=[dict(type='convnext_mm.EMAHook', momentum=.25), watch], param_scheduler=None,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.5), accumulative_counts=accumulation),
        checkpoint=dict(interval=1, by_epoch=True, save_best=['sum', 'sum_plain'], rule='greater'),
        val_dataloader=dict(dataset=ToyData(), batch_size=5, num_workers=0, sampler=dict(type='DefaultSampler')),
        val_cfg=dict(type='ValLoop'), val_evaluator=dict(type='WeightSum'))
    WeightSum.model = runner.model
    runner.train()
    # An epoch is 5 batches.
    steps = 5 if accumulation == 1 else 3
    assert len(watch.weights) == 2 * steps
    for epoch, metrics in enumerate(watch.metrics, 1):
        done = watch.weights[:epoch * steps]
        assert metrics['sum_plain'] == pytest.approx(float(done[-1].sum()), rel=1e-5)
        assert metrics['sum'] == pytest.approx(float(average(done, .25).sum()), rel=1e-5)
        assert metrics['sum'] != pytest.approx(metrics['sum_plain'], rel=1e-3)
    content = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    assert torch.allclose(content['state_dict']['linear.weight'], average(watch.weights, .25), rtol=1e-5)
    assert torch.equal(content['ema_state_dict']['module.linear.weight'], watch.weights[-1])
    best = {name: max((metrics[name], epoch) for epoch, metrics in enumerate(watch.metrics, 1))[1]
            for name in ('sum', 'sum_plain')}
    assert sorted(path.name for path in tmp_path.glob('best_*')) == sorted(
        f'best_{name}_epoch_{epoch}.pth' for name, epoch in best.items())
    assert torch.equal(runner.model.linear.weight, watch.weights[-1]), 'training goes on with the weights'
