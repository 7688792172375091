"""Cascade Mask R-CNN with ConvNeXt-T from ImageNet-1K."""
_base_ = './_base_.py'

model = dict(
    backbone=dict(
        arch='tiny',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_tiny_in1k')),
    neck=dict(in_channels=[96, 192, 384, 768]))
