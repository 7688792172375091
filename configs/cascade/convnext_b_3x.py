"""Cascade Mask R-CNN with ConvNeXt-B from ImageNet-1K."""
_base_ = './_base_.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.7,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_base_in1k')),
    neck=dict(in_channels=[128, 256, 512, 1024]))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8))
