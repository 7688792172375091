"""The ImageNet family's recipe on drawn shapes (`make demo`): the same parts, smaller, for a training of a minute.

Left out is what pays off in long trainings alone: mixing, RandAugment, crops, erasing and the moving average.
"""
_base_ = '../imagenet/_base_.py'


def loader(base, split, **transform):
    step, pack = base.dataset.pipeline
    return dict(batch_size=16, num_workers=1, dataset=dict(
        # ImageNet knows its own 1000 classes alone.
        _delete_=True,
        type='CustomDataset',
        data_root=f'data/shapes/classes/{split}',
        # Images of 64 in place of 224.
        pipeline=[dict(step, size=64, **transform), pack]))


model = dict(
    data_preprocessor=dict(num_classes=3),
    backbone=dict(
        arch=dict(_delete_=True, depths=(2, 2, 4, 2), channels=[24, 48, 96, 192]),
        # The official 0.02 is too small to be left in a training this short.
        layer_scale_init_value=1.0,
        init_cfg=dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=0.1)),
    neck=dict(in_channels=192),
    head=dict(num_classes=3, in_channels=192),
    train_cfg=dict(_delete_=True))

train_dataloader = loader(_base_.train_dataloader, 'train', scale=(1, 1), ratio=(1, 1), auto_augment=None, re_prob=0)
val_dataloader = loader(_base_.val_dataloader, 'val', crop_pct=1.0)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

# One epoch of warm-up and four along the cosine.
train_cfg = dict(max_epochs=5, val_interval=5)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=1), dict(cosine, begin=1, end=5)]
del warm_up, cosine
# At 4e-3, steps of few images end where two of the three classes are taken for one.
optim_wrapper = dict(optimizer=dict(lr=2e-3))

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=5, max_keep_ckpts=1, save_best=None))
custom_hooks = [hook for hook in _base_.custom_hooks if hook.type != 'convnext_mm.EMAHook']
