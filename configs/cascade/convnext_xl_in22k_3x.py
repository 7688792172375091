"""Cascade Mask R-CNN with ConvNeXt-XL from ImageNet-22K, in float32.

Where a GPU cannot hold it: `tools/dist_train.sh` with `--strategy fsdp`, see docs/scale-out.md.
"""
_base_ = './_base_.py'

model = dict(
    backbone=dict(
        arch='xlarge',
        drop_path_rate=0.8,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_xlarge_in22k')),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1e-4))
amp_dtype = 'bfloat16'  # with `tools/train.py --amp`
