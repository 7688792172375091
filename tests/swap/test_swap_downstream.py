"""Configs of toolboxes that are not installed, with their typical structures, swapped where they can be."""
import pytest
from mmengine.config import Config

from convnext_mm import swap_backbone
from convnext_mm.swap.errors import RefusedError

ALL, UPPER = [96, 192, 384, 768], [192, 384, 768]
RESNET = dict(type='mmdet.ResNet', depth=50, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1, norm_eval=True,
              norm_cfg=dict(type='BN', requires_grad=True), style='pytorch',
              init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'))
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1., 1., 1.], bgr_to_rgb=False)
SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=.0025, momentum=.9, weight_decay=.0001),
           clip_grad=dict(max_norm=35, norm_type=2))


def config(scope, optim_wrapper=SGD, **model):
    return Config(dict(default_scope=scope, model=model, optim_wrapper=optim_wrapper))


def rotated_retinanet():
    return config(
        'mmrotate', type='mmdet.RetinaNet', backbone=RESNET,
        data_preprocessor=dict(type='mmdet.DetDataPreprocessor', pad_size_divisor=32, boxtype2tensor=False, **CAFFE),
        neck=dict(type='mmdet.FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, start_level=1,
                  add_extra_convs='on_input', num_outs=5),
        bbox_head=dict(type='mmdet.RetinaHead', num_classes=15, in_channels=256, feat_channels=256,
                       anchor_generator=dict(type='FakeRotatedAnchorGenerator', angle_version='le135')))


def oriented_rcnn():
    return config(
        'mmrotate', type='mmdet.FasterRCNN', backbone=dict(RESNET, depth=18),
        data_preprocessor=dict(type='mmdet.DetDataPreprocessor', pad_size_divisor=32, **CAFFE),
        neck=dict(type='mmdet.FPN', in_channels=[64, 128, 256, 512], out_channels=256, num_outs=5),
        rpn_head=dict(type='OrientedRPNHead', in_channels=256, feat_channels=256),
        roi_head=dict(type='mmdet.StandardRoIHead', bbox_head=dict(type='mmdet.Shared2FCBBoxHead', in_channels=256)))


def heatmap(backbone=None, in_channels=2048, neck=None, **head):
    model = dict(backbone=backbone or dict(type='ResNet', depth=50),
                 head=dict(type='HeatmapHead', in_channels=in_channels, out_channels=17, **head))
    if neck:
        model['neck'] = neck
    return config('mmpose', dict(optimizer=dict(type='Adam', lr=5e-4)), type='TopdownPoseEstimator',
                  data_preprocessor=dict(type='PoseDataPreprocessor', **CAFFE), **model)


def hrnet_pose():
    return heatmap(dict(type='HRNet', extra=dict(stage4=dict(num_channels=(32, 64, 128, 256)))), 32,
                   deconv_out_channels=None)


def vit_pose():
    return heatmap(dict(type='mmpretrain.VisionTransformer', arch=dict(embed_dims=384), patch_size=16,
                        out_type='featmap'),
                   384, deconv_out_channels=(256, 256))


def fcos3d():
    return config(
        'mmdet3d', type='FCOSMono3D',
        data_preprocessor=dict(type='Det3DDataPreprocessor', pad_size_divisor=32, **CAFFE),
        backbone=dict(RESNET, depth=101, dcn=dict(type='DCNv2'), stage_with_dcn=(False, False, True, True)),
        neck=dict(type='mmdet.FPN', in_channels=[256, 512, 1024, 2048], start_level=1, num_outs=5, out_channels=256),
        bbox_head=dict(type='FCOSMono3DHead', in_channels=256))


def multi_modal():
    return config(
        'mmdet3d', type='MVXFasterRCNN', img_backbone=RESNET,
        data_preprocessor=dict(type='Det3DDataPreprocessor', pad_size_divisor=32, **CAFFE),
        img_neck=dict(type='mmdet.FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
        pts_backbone=dict(type='SECOND', in_channels=64, layer_nums=[3, 5, 5], out_channels=[64, 128, 256]),
        pts_neck=dict(type='SECONDFPN', in_channels=[64, 128, 256], out_channels=[128, 128, 128]))


def point_pillars():
    return config(
        'mmdet3d', type='VoxelNet', voxel_encoder=dict(type='PillarFeatureNet'),
        backbone=dict(type='SECOND', in_channels=64, layer_nums=[3, 5, 5], out_channels=[64, 128, 256]),
        neck=dict(type='SECONDFPN', in_channels=[64, 128, 256], out_channels=[128, 128, 128]))


def yolo(version=5, widen=.5):
    return config(
        'mmyolo', type='YOLODetector',
        data_preprocessor=dict(type='YOLOv5DetDataPreprocessor', mean=[0., 0., 0.], std=[255.] * 3, bgr_to_rgb=True),
        backbone=dict(type=f'YOLOv{version}CSPDarknet', deepen_factor=.33, widen_factor=widen),
        neck=dict(type=f'YOLOv{version}PAFPN', deepen_factor=.33, widen_factor=widen, in_channels=[256, 512, 1024],
                  out_channels=[256, 512, 1024]),
        bbox_head=dict(type=f'YOLOv{version}Head', head_module=dict(
            type=f'YOLOv{version}HeadModule', in_channels=[256, 512, 1024], widen_factor=widen, num_classes=80)))


def distiller():
    detector = dict(rotated_retinanet().model, type='mmdet.RetinaNet')
    detector.pop('data_preprocessor')
    return config('mmrazor', type='SingleTeacherDistill',
                  data_preprocessor=dict(type='mmdet.DetDataPreprocessor', **CAFFE),
                  architecture=dict(detector, init_cfg=dict(type='Pretrained', checkpoint='student.pth')),
                  teacher=dict(detector, init_cfg=dict(type='Pretrained', checkpoint='teacher.pth')))


def two_backbones():
    neck = dict(type='mmdet.FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5)
    return config('mmdet3d', type='Fusion', data_preprocessor=dict(type='Det3DDataPreprocessor', **CAFFE),
                  img_backbone=RESNET, img_neck=neck, depth_backbone=dict(RESNET, depth=18),
                  depth_neck=dict(neck, in_channels=[64, 128, 256, 512]), bbox_head=dict(in_channels=256))


SWAPPED = [
    (distiller(), {'architecture.neck.in_channels': UPPER, 'architecture.init_cfg': None,
                   'teacher.neck.in_channels': [256, 512, 1024, 2048], 'teacher.backbone.type': 'mmdet.ResNet',
                   'teacher.init_cfg.checkpoint': 'teacher.pth'}),
    (two_backbones(), {'img_neck.in_channels': ALL, 'depth_neck.in_channels': ALL,
                       'depth_backbone.type': 'convnext_mm.ConvNeXt'}),
    (rotated_retinanet(), {'neck.in_channels': UPPER, 'neck.start_level': 0, 'bbox_head.in_channels': 256,
                           'data_preprocessor.bgr_to_rgb': True, 'data_preprocessor.pad_size_divisor': 32}),
    (oriented_rcnn(), {'neck.in_channels': ALL, 'rpn_head.in_channels': 256}),
    (heatmap(),
     {'head.in_channels': 768, 'backbone.out_indices': (3,), 'data_preprocessor.mean': [123.675, 116.28, 103.53]}),
    (heatmap(neck=dict(type='GlobalAveragePooling')), {'head.in_channels': 768, 'neck.type': 'GlobalAveragePooling'}),
    (vit_pose(), {'head.in_channels': 768, 'backbone.output_stride': 16}),
    (fcos3d(), {'neck.in_channels': UPPER, 'backbone.out_indices': (1, 2, 3)}),
    (multi_modal(),
     {'img_neck.in_channels': ALL, 'pts_backbone.type': 'SECOND', 'pts_neck.in_channels': [64, 128, 256]}),
    *((yolo(version, widen), {'neck.widen_factor': widen, 'backbone.out_indices': (1, 2, 3)})
      for version in (5, 8) for widen in (.25, .33, .5, 1., 1.25)),
]
REFUSED = [
    (hrnet_pose(), 'structure', 'HRNet.*stride 4'),
    (point_pillars(), 'no image backbone', 'SECOND.*point clouds'),
    (config('mmrotate', type='mmdet.RetinaNet', backbone=dict(type='ReResNet', depth=50, out_indices=(0, 1, 2, 3)),
            neck=dict(type='ReFPN', in_channels=[256, 512, 1024, 2048])), 'structure', 'ReResNet.*orientation'),
    (config('mmdet3d', type='SMOKEMono3D', backbone=dict(type='DLANet', depth=34),
            neck=dict(type='DLANeck', in_channels=[16, 32, 64, 128, 256, 512])), 'structure', 'DLANet.*stride 1 and 2'),
    (config('mmaction', type='Recognizer3D', backbone=dict(type='ResNet3dSlowOnly', depth=50),
            cls_head=dict(type='I3DHead', in_channels=2048)), 'package missing', 'ResNet3dSlowOnly.*not known'),
    (config('mmpose', type='TopdownPoseEstimator', backbone=dict(type='ResNet', depth=50),
            head=dict(type='HeatmapHead', in_channels=512)), 'structure', 'declares'),
]


@pytest.mark.parametrize(('cfg', 'expected'), SWAPPED, ids=lambda v: v.model.type if isinstance(v, Config) else '')
def test_typical_structures(cfg, expected):
    new = swap_backbone(cfg)
    for path, wanted in expected.items():
        node = new.model
        for key in path.split('.'):
            node = node[key]
        assert node == wanted, path
    assert new.optim_wrapper.optimizer.type == 'AdamW'
    assert new.optim_wrapper.get('clip_grad') == cfg.optim_wrapper.get('clip_grad')


@pytest.mark.parametrize('version', [5, 8])
@pytest.mark.parametrize('widen', [.25, .33, .5, .75, 1., 1.25])
def test_necks_that_scale_their_channels(version, widen):
    """mmyolo's necks take ``ceil(n * widen_factor / 8) * 8`` channels, and hand them on to the head."""
    model = swap_backbone(yolo(version, widen)).model
    for declared in (model.neck.in_channels, model.neck.out_channels, model.bbox_head.head_module.in_channels):
        assert [-(-(n * widen) // 8) * 8 for n in declared] == UPPER


@pytest.mark.parametrize(('cfg', 'kind', 'message'), REFUSED,
                         ids=lambda v: v.model.type if isinstance(v, Config) else '')
def test_refusals(cfg, kind, message):
    with pytest.raises(RefusedError, match=message) as info:
        swap_backbone(cfg)
    assert info.value.kind == kind
