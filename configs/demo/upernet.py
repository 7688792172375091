"""The UPerNet family's recipe on drawn shapes (`make demo`): the same parts, smaller, from random weights."""
_base_ = '../upernet/_base_.py'

# The import stands below `_base_`: above it, mmengine would take the file for a config of its lazy syntax.
from convnext_mm.utils.sizes import scale_sizes  # noqa: E402


def loader(base, **settings):
    return dict(num_workers=1, **settings, dataset=dict(
        # ADE20KDataset knows its own 150 classes alone.
        type='convnext_mm.ShapesDataset',
        data_root='data/shapes/ade/',
        # Crops of 160 in place of 512.
        pipeline=scale_sizes(base.dataset.pipeline, 5, 16)))


crop_size = scale_sizes(_base_.crop_size, 5, 16)
channels = [24, 48, 96, 192]
model = dict(
    # From random weights: padding of exact zeros would have no variance, and LayerNorms one after the other multiply
    # its gradient by 1 / sqrt(eps) = 1000 each, which drowns that of the image.
    data_preprocessor=dict(size=crop_size, pad_val=1),
    backbone=dict(arch=dict(depths=(2, 2, 4, 2), channels=channels)),
    decode_head=dict(in_channels=channels, channels=64, num_classes=4),
    auxiliary_head=dict(in_channels=channels[2], channels=64, num_classes=4),
    test_cfg=scale_sizes(_base_.model.test_cfg, 5, 16))
del channels

train_dataloader = loader(_base_.train_dataloader, batch_size=4)
val_dataloader = loader(_base_.val_dataloader)
test_dataloader = val_dataloader
test_pipeline = test_dataloader['dataset']['pipeline']
tta_pipeline = scale_sizes(_base_.tta_pipeline, 5, 16)

iterations = _base_.train_cfg.max_iters // 400
train_cfg = dict(max_iters=iterations, val_interval=iterations)
warm_up, poly = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=41), dict(poly, end=iterations + 1)]
optim_wrapper = dict(optimizer=dict(lr=3e-3))

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=iterations, max_keep_ckpts=1, save_best=None))
del iterations, warm_up, poly
