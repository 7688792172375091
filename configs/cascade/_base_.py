"""Cascade Mask R-CNN on COCO."""
_base_ = [
    '../_base_/models/cascade_mask_rcnn.py', '../_base_/datasets/coco_instance.py', '../_base_/schedules/coco_3x.py',
    '../_base_/mmdet_runtime.py']

optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(decay_rate=0.7))
