"""A step of the roadmap on drawn shapes, in an eighth of its width at 64x64 (`tools/roadmap.py --train`)."""
_base_ = './resnet50_imagenet.py'


def loader(name, shuffle):
    return dict(
        _delete_=True,
        batch_size=32,
        num_workers=0,
        drop_last=shuffle,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        dataset=dict(
            type='CustomDataset',
            data_root=f'data/shapes/classes/{name}',
            pipeline=[
                dict(type='LoadImageFromFile'),
                *([dict(type='RandomFlip', prob=0.5, direction='horizontal')] if shuffle else []),
                dict(type='PackInputs')]))


model = dict(
    data_preprocessor=dict(num_classes=3, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    backbone=dict(width_divisor=8),
    head=dict(num_classes=3, in_channels=96),
    # Images of one shape cannot be mixed.
    train_cfg=dict(_delete_=True))
train_dataloader = loader('train', True)
val_dataloader = loader('val', False)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator

# One epoch of warm-up and five along the cosine.
train_cfg = dict(max_epochs=6, val_interval=6)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=1), dict(cosine, begin=1, end=6)]
del warm_up, cosine
optim_wrapper = dict(optimizer=dict(lr=2e-3))
auto_scale_lr = dict(base_batch_size=32)
randomness = dict(seed=0)

default_hooks = dict(logger=dict(interval=5), checkpoint=dict(interval=1, max_keep_ckpts=1, save_best=None))
