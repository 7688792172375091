"""ConvNeXt-T on ImageNet-1K."""
_base_ = './_base_.py'

model = dict(backbone=dict(drop_path_rate=0.1))
