"""ConvNeXt-XL from ImageNet-22K, fine-tuned on ImageNet-1K at 224, with an average of the weights."""
_base_ = [
    '../_base_/models/convnext_finetuned.py', '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_finetune_30e.py', '../_base_/mmpretrain_ema_runtime.py']

model = dict(
    backbone=dict(arch='xlarge', drop_path_rate=0.4),
    neck=dict(in_channels=2048),
    head=dict(in_channels=2048))
train_dataloader = dict(batch_size=16)
load_from = 'convnext_xlarge_in22k'
