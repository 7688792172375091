"""ConvNeXt-B from ImageNet-22K, fine-tuned on ImageNet-1K at 224."""
_base_ = './_base_finetune.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.2), neck=dict(in_channels=1024), head=dict(in_channels=1024))
load_from = 'convnext_base_in22k'
