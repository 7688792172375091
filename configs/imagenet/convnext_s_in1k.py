"""ConvNeXt-S on ImageNet-1K."""
_base_ = './_base_.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.4))
