"""ConvNeXt-T from ImageNet-22K, fine-tuned on ImageNet-1K at 224.

The official code refuses layer decay for T. Here T has 6 layers, as in detection: three blocks of stage 2 to a layer.
"""
_base_ = './_base_finetune.py'

load_from = 'convnext_tiny_in22k'
