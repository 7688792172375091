"""ConvNeXt-S on ImageNet-22K."""
_base_ = './_base_in22k.py'

model = dict(backbone=dict(arch='small'))
