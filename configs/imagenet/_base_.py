"""ConvNeXt on ImageNet-1K from scratch: 300 epochs, images of 224."""
_base_ = [
    '../_base_/models/convnext_classifier.py', '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e.py', '../_base_/mmpretrain_ema_runtime.py']
