"""A study that the paper does not have: Mask R-CNN on a step of the roadmap in the regime of ResNet-200."""
_base_ = './resnet50_mask_rcnn.py'

model = dict(backbone=dict(regime='resnet200'), neck=dict(in_channels=[128, 256, 512, 1024]))
