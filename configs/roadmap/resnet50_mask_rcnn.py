"""A study that the paper does not have: Mask R-CNN on a step of the roadmap in the regime of ResNet-50.

--cfg-options model.backbone.step=NAME chooses the step. No weights of the steps are published: train one on
ImageNet (resnet50_imagenet.py), and give its checkpoint by --cfg-options model.backbone.init_cfg.type=Pretrained
model.backbone.init_cfg.checkpoint=FILE model.backbone.init_cfg.prefix=backbone. The rest is the recipe of Mask R-CNN
with ConvNeXt-T; layer ids are this project's own.
"""
_base_ = '../mask_rcnn/_base_.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='convnext_mm.ModernizedResNet',
        regime='resnet50',
        step='separate_downsampling',
        # All steps emit maps of one scale, so that they differ in the backbone alone.
        out_norms=True),
    # Those of the step: the commands of convnext_mm set them with the step; with mm's own, give both.
    neck=dict(in_channels=[96, 192, 384, 768]))
# Two images a GPU are too few for the statistics of BatchNorm.
sync_bn = 'torch'
