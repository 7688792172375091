"""Isotropic ConvNeXt-B on ImageNet-1K."""
_base_ = './_base_.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2),
    neck=dict(in_channels=768),
    head=dict(in_channels=768))
