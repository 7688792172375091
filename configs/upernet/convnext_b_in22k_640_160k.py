"""UPerNet with ConvNeXt-B from ImageNet-22K, crops of 640."""
_base_ = './_base_640.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_base_in22k')),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512))
