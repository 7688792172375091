"""ConvNeXt-S from ImageNet-22K, fine-tuned on ImageNet-1K at 384."""
_base_ = './_base_finetune_384.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.1))
load_from = 'convnext_small_in22k'
