"""Isotropic ConvNeXt-S on ImageNet-1K: the recipe of ConvNeXt with 50 epochs of warm-up."""
_base_ = [
    '../_base_/models/classifier.py', '../_base_/datasets/imagenet_224.py', '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_ema_runtime.py']

model = dict(
    backbone=dict(type='convnext_mm.IsotropicConvNeXt', arch='small', out_norms=False, layer_scale_init_value=0),
    neck=dict(type='convnext_mm.PooledLayerNorm', in_channels=384),
    head=dict(in_channels=384))
warm_up, cosine = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=50), dict(cosine, begin=50)]
del warm_up, cosine
