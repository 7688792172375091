"""ConvNeXt-B from ImageNet-1K at 224, fine-tuned at 384."""
_base_ = './_base_finetune_384.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.8), neck=dict(in_channels=1024), head=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.7))
load_from = 'convnext_base_in1k'
