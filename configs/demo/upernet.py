"""The UPerNet family's recipe on drawn shapes (`make demo`): the same parts, smaller, from random weights."""
_base_ = '../upernet/_base_.py'


def shrink(value):
    """``value`` with every pair of integers in it, which are sizes in pixels, times 5 / 16: crops of 160."""
    if isinstance(value, dict):
        return {key: shrink(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shrink(item) for item in value]
    if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        return tuple(item * 5 // 16 for item in value)
    return value


def loader(base, **settings):
    return dict(num_workers=1, **settings, dataset=dict(
        # ADE20KDataset knows its own 150 classes alone.
        type='BaseSegDataset',
        data_root='data/shapes/ade/',
        img_suffix='.png',
        reduce_zero_label=True,
        metainfo=dict(classes=('ground', 'circle', 'square', 'triangle'),
                      palette=[(205, 205, 200), (228, 40, 60), (30, 120, 240), (255, 190, 0)]),
        pipeline=shrink(base.dataset.pipeline)))


crop_size = shrink(_base_.crop_size)
channels = [24, 48, 96, 192]
model = dict(
    # From random weights: padding of exact zeros would have no variance, and LayerNorms one after the other multiply
    # its gradient by 1 / sqrt(eps) = 1000 each, which drowns that of the image.
    data_preprocessor=dict(size=crop_size, pad_val=1),
    backbone=dict(arch=dict(depths=(2, 2, 4, 2), channels=channels)),
    decode_head=dict(in_channels=channels, channels=64, num_classes=4),
    auxiliary_head=dict(in_channels=channels[2], channels=64, num_classes=4),
    test_cfg=shrink(_base_.model.test_cfg))
del channels

train_dataloader = loader(_base_.train_dataloader, batch_size=4)
val_dataloader = loader(_base_.val_dataloader)
test_dataloader = val_dataloader
tta_pipeline = shrink(_base_.tta_pipeline)

iterations = _base_.train_cfg.max_iters // 400
train_cfg = dict(max_iters=iterations, val_interval=iterations)
warm_up, poly = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=41), dict(poly, end=iterations + 1)]
optim_wrapper = dict(optimizer=dict(lr=3e-3))

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=iterations, max_keep_ckpts=1, save_best=None))
del iterations, warm_up, poly
