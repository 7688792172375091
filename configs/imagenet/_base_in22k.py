"""ConvNeXt on ImageNet-22K: 90 epochs, images of 224, no validation."""
_base_ = [
    '../_base_/models/convnext_classifier.py', '../_base_/datasets/imagenet22k_224.py',
    '../_base_/schedules/imagenet_22k_90e.py', '../_base_/mmpretrain_runtime.py']

model = dict(data_preprocessor=dict(num_classes=21841), head=dict(num_classes=21841))
default_hooks = dict(checkpoint=dict(save_best=None))
