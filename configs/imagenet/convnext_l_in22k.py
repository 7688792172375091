"""ConvNeXt-L on ImageNet-22K."""
_base_ = './_base_in22k.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.1),
    neck=dict(in_channels=1536),
    head=dict(in_channels=1536))
