"""ConvNeXt-L on ImageNet-1K."""
_base_ = './_base_.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5),
    neck=dict(in_channels=1536),
    head=dict(in_channels=1536))
train_dataloader = dict(batch_size=64)
