"""A step of the roadmap in the regime of ResNet-50, on ImageNet-1K.

--cfg-options model.backbone.step=NAME chooses the step; its number will do, too. The recipe is the paper's for ConvNeXt
from step 1 on, without the moving average of the weights, which hurts networks with BatchNorm; step 0 was torchvision's
own training. The paper trained each step with three seeds. Give each step a --work-dir of its own.
"""
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/imagenet_224.py', '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_runtime.py']

# Drop path and layer scale are those of the step, unless they are given. The head's in_channels are those of the step,
# too: the commands of convnext_mm set them with the step; with mm's own, give both.
model = dict(backbone=dict(type='convnext_mm.ModernizedResNet', regime='resnet50', step='separate_downsampling',
                           pool=True, out_indices=(3,)))
