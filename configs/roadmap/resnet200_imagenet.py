"""A step of the roadmap in the regime of ResNet-200, on ImageNet-1K.

As for ResNet-50, with the drop path of ConvNeXt-B; the paper trained each step once.
"""
_base_ = './resnet50_imagenet.py'

model = dict(backbone=dict(regime='resnet200'), head=dict(in_channels=1024))
