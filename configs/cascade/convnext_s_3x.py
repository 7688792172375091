"""Cascade Mask R-CNN with ConvNeXt-S from ImageNet-1K."""
_base_ = './_base_.py'

model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.6,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_small_in1k')),
    neck=dict(in_channels=[96, 192, 384, 768]))
