"""ConvNeXt-L from ImageNet-1K at 224, fine-tuned at 384.

It starts from the averaged weights, where all others start from the trained ones.
"""
_base_ = './_base_finetune_384.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.95),
    neck=dict(in_channels=1536),
    head=dict(in_channels=1536))
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.7))
load_from = 'convnext_large_in1k_ema'
