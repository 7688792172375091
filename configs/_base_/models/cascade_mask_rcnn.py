"""Cascade Mask R-CNN: Mask R-CNN with three box heads of 4 convolutions and 1 linear layer, trained with GIoU."""
_base_ = './mask_rcnn.py'


def bbox_head(target_stds):
    head = _base_.model.roi_head.bbox_head
    return dict(
        head,
        type='ConvFCBBoxHead',
        num_shared_convs=4,
        num_shared_fcs=1,
        conv_out_channels=256,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        bbox_coder=dict(head.bbox_coder, target_stds=target_stds),
        reg_decoded_bbox=True,
        loss_bbox=dict(type='GIoULoss', loss_weight=10.0))


def stage_settings(iou_thr):
    settings = _base_.model.train_cfg.rcnn
    return dict(settings, assigner=dict(settings.assigner, pos_iou_thr=iou_thr, neg_iou_thr=iou_thr,
                                        min_pos_iou=iou_thr, match_low_quality=False))


# mmdet 3 always suppresses within a level and keeps `max_per_img`: `nms_across_levels` and `nms_post` record that.
model = dict(
    type='CascadeRCNN',
    rpn_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9)),
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[bbox_head([xy, xy, wh, wh]) for xy, wh in ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067))]),
    train_cfg=dict(
        rpn=dict(allowed_border=0),
        rpn_proposal=dict(nms_across_levels=False, nms_post=2000, max_per_img=2000),
        rcnn=[stage_settings(iou_thr) for iou_thr in (0.5, 0.6, 0.7)]),
    test_cfg=dict(rpn=dict(nms_across_levels=False, nms_post=1000)))
