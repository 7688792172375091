"""Isotropic ConvNeXt-L on ImageNet-1K: with layer scale, which S and B do without."""
_base_ = './_base_.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5, layer_scale_init_value=1e-6),
    neck=dict(in_channels=1024),
    head=dict(in_channels=1024))
train_dataloader = dict(batch_size=64)
