"""ConvNeXt-XL on ImageNet-22K."""
_base_ = './_base_in22k.py'

model = dict(
    backbone=dict(arch='xlarge', drop_path_rate=0.2),
    neck=dict(in_channels=2048),
    head=dict(in_channels=2048))
