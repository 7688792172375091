"""ConvNeXt-XL from ImageNet-22K, fine-tuned on ImageNet-1K at 224."""
_base_ = './_base_finetune.py'

model = dict(
    backbone=dict(arch='xlarge', drop_path_rate=0.4),
    neck=dict(in_channels=2048),
    head=dict(in_channels=2048))
train_dataloader = dict(batch_size=16)
load_from = 'convnext_xlarge_in22k'
default_hooks = dict(checkpoint=dict(save_best=['accuracy/top1', 'accuracy/top1_plain']))
custom_hooks = [*_base_.custom_hooks, dict(type='convnext_mm.EMAHook', momentum=1e-4)]
