"""The runtime of classifiers whose weights are averaged; the best average and the best weights are kept."""
_base_ = './mmpretrain_runtime.py'

default_hooks = dict(checkpoint=dict(save_best=['accuracy/top1', 'accuracy/top1_plain']))
custom_hooks = [*_base_.custom_hooks, dict(type='convnext_mm.EMAHook', momentum=1e-4)]
