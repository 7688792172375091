"""ConvNeXt-L from ImageNet-22K, fine-tuned on ImageNet-1K at 224."""
_base_ = './_base_finetune.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.3),
    neck=dict(in_channels=1536),
    head=dict(in_channels=1536))
load_from = 'convnext_large_in22k'
