"""UPerNet with ConvNeXt-XL from ImageNet-22K, crops of 640, in float32.

Where a GPU cannot hold it: `tools/dist_train.sh` with `--strategy fsdp`, see docs/scale-out.md.
"""
_base_ = './_base_640.py'

model = dict(
    backbone=dict(
        arch='xlarge',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_xlarge_in22k')),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=8e-5))
amp_dtype = 'bfloat16'  # with `tools/train.py --amp`
