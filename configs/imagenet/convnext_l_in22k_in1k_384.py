"""ConvNeXt-L from ImageNet-22K, fine-tuned on ImageNet-1K at 384."""
_base_ = './_base_finetune_384.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.3),
    neck=dict(in_channels=1536),
    head=dict(in_channels=1536))
train_dataloader = dict(batch_size=16)
load_from = 'convnext_large_in22k'
