"""ConvNeXt-B on ImageNet-22K."""
_base_ = './_base_in22k.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.1), neck=dict(in_channels=1024), head=dict(in_channels=1024))
