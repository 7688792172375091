"""The cascade family's recipe on drawn shapes (`make demo`): the same parts, smaller, from random weights."""
_base_ = '../cascade/_base_.py'
# The import stands below `_base_`: above it, mmengine would take the file for a config of its lazy syntax.
from convnext_mm.utils.sizes import scale_sizes  # noqa: E402


def small(part, **settings):
    """A part of the family with 64 channels, 32 inside the heads, and for the 3 classes of the shapes."""
    sizes = dict(in_channels=64, out_channels=64, feat_channels=64, conv_out_channels=32, fc_out_channels=256,
                 num_classes=3)
    return dict(part, **{key: size for key, size in sizes.items() if key in part}, **settings)


def loader(base, **settings):
    return dict(num_workers=1, **settings, dataset=dict(
        data_root='data/shapes/coco/',
        metainfo=dict(classes=('circle', 'square', 'triangle'),
                      palette=[(228, 40, 60), (30, 120, 240), (255, 190, 0)]),
        # Images of 192x160 in place of about 1000x800.
        pipeline=scale_sizes(base.dataset.pipeline, 1, 5)))


roi_head = _base_.model.roi_head
channels = [24, 48, 96, 192]
model = dict(
    # From random weights: padding of exact zeros would have no variance, and LayerNorms one after the other multiply
    # its gradient by 1 / sqrt(eps) = 1000 each, which drowns that of the image.
    data_preprocessor=dict(pad_value=1),
    backbone=dict(arch=dict(depths=(2, 2, 4, 2), channels=channels)),
    neck=dict(in_channels=channels, out_channels=64),
    rpn_head=small(_base_.model.rpn_head),
    roi_head=dict(
        bbox_roi_extractor=small(roi_head.bbox_roi_extractor),
        bbox_head=[small(head) for head in roi_head.bbox_head],
        mask_roi_extractor=small(roi_head.mask_roi_extractor),
        mask_head=small(roi_head.mask_head)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=500),
        # 8 boxes with an object, as 32 with a quarter of them would have, at half of the cost.
        rcnn=[dict(stage, sampler=dict(stage.sampler, num=16, pos_fraction=0.5))
              for stage in _base_.model.train_cfg.rcnn]),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=200)))
del roi_head, channels

train_dataloader = loader(_base_.train_dataloader, batch_size=2)
val_dataloader = loader(_base_.val_dataloader)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/shapes/coco/annotations/instances_val2017.json')
test_evaluator = val_evaluator

# Half of the epochs, with the milestones at the same parts of them.
train_cfg = dict(max_epochs=_base_.train_cfg.max_epochs // 2, val_interval=_base_.train_cfg.max_epochs // 2)
warm_up, steps = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=51), dict(steps, milestones=[epoch // 2 for epoch in steps.milestones])]
del warm_up, steps
# A backbone from random weights has everything to learn: a higher rate, and less of it taken off towards the stem.
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(decay_rate=0.9))

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=9, max_keep_ckpts=1, save_best=None))
