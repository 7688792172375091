"""Swapping the backbone of installed configs: what changes, what stays, what is refused."""
import copy
import re

import pytest
from mmengine.config import Config

from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.published.paper import published
from convnext_mm.published.weights import weights
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

from convnext_mm import swap_backbone
from convnext_mm.swap.edits import plain
from convnext_mm.swap.errors import RefusedError
from convnext_mm.swap.inputs import MEAN, STD
from convnext_mm.swap.sources import emitted, measure_features
from convnext_mm.swap.swap import swap
from convnext_mm.utils.config_files import find_config
from convnext_mm.utils.configs import walk

RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
CAFFE = 'mmdet::faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py'
MASK2FORMER = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'
SWIN_MASK2FORMER = 'mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py'
DEEPLAB = 'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py'
UPERNET = 'mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py'
MASK_RCNN = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
CASCADE = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'
YOLOX = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'


def load(name):
    return Config.fromfile(find_config(name))


def value(cfg, path):
    for key in path.split('.'):
        cfg = cfg[int(key)] if isinstance(cfg, (list, tuple)) else cfg[key]
    return cfg


ALL, UPPER, LAST = [96, 192, 384, 768], [192, 384, 768], 768
EXPECTED = [  # config, {path below model: value}; every kind of consumer
    (RETINANET, {'neck.in_channels': UPPER, 'neck.start_level': 0, 'backbone.out_indices': (1, 2, 3)}),
    (CAFFE, {'neck.in_channels': ALL, 'backbone.out_indices': None, 'backbone.output_stride': None}),
    (MASK2FORMER, {'panoptic_head.in_channels': ALL, 'panoptic_head.strides': [4, 8, 16, 32]}),
    ('mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py', {'panoptic_head.in_channels': ALL}),
    ('mmdet::pafpn/faster-rcnn_r50_pafpn_1x_coco.py', {'neck.in_channels': ALL}),
    ('mmdet::nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py', {'neck.in_channels': UPPER, 'neck.start_level': 0}),
    ('mmdet::libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py', {
        'neck.0.in_channels': UPPER, 'neck.0.start_level': 0, 'neck.1.in_channels': 256}),
    ('mmdet::hrnet/fcos_hrnetv2p-w18-gn-head_4xb4-1x_coco.py', {'neck.in_channels': ALL}),
    ('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py', {
        'neck.in_channels': [768, 384, 192], 'neck.out_channels': [512, 256, 128], 'backbone.out_indices': (1, 2, 3)}),
    (YOLOX, {'neck.in_channels': UPPER, 'backbone.out_indices': (1, 2, 3)}),
    ('mmdet::ssd/ssd300_coco.py', {
        'neck.in_channels': (192, 384), 'neck.out_channels': (192, 384, 512, 256, 256, 256),
        'bbox_head.in_channels': (192, 384, 512, 256, 256, 256), 'backbone.out_indices': (1, 2)}),
    ('mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py', {
        'neck.in_channels': (384, 768), 'bbox_head.in_channels': (384, 768, 512, 256, 256, 128)}),
    ('mmdet::detr/detr_r18_8xb2-500e_coco.py', {'neck.in_channels': [768], 'backbone.out_indices': (3,)}),
    ('mmdet::dino/dino-5scale_swin-l_8xb2-12e_coco.py', {'neck.in_channels': ALL, 'backbone.with_cp': True}),
    ('mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py', {'neck.in_channels': LAST}),
    ('mmdet::centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco.py', {
        'neck.in_channels': LAST, 'backbone.out_indices': (3,)}),
    ('mmdet::faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py', {
        'rpn_head.in_channels': LAST, 'roi_head.bbox_roi_extractor.out_channels': LAST,
        'roi_head.bbox_head.in_channels': LAST, 'rpn_head.feat_channels': 2048,
        'backbone.output_stride': 16, 'backbone.out_indices': (3,)}),
    ('mmdet::rpn/rpn_r50-caffe-c4_1x_coco.py', {'rpn_head.in_channels': 384, 'backbone.output_stride': None}),
    ('mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py', {
        'detector.neck.in_channels': ALL, 'data_preprocessor.data_preprocessor.mean': [*MEAN]}),
    ('mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py', {
        'detector.neck.in_channels': ALL, 'reid.head.in_channels': LAST, 'reid.backbone.out_indices': (3,),
        'detector.init_cfg': None, 'reid.init_cfg': None}),
    ('mmdet::lad/lad_r101-paa-r50_fpn_2xb8_coco_1x.py', {
        'neck.in_channels': UPPER, 'teacher_neck.in_channels': [256, 512, 1024, 2048],
        'teacher_backbone.type': 'ResNet'}),
    (DEEPLAB, {'decode_head.in_channels': LAST, 'decode_head.in_index': 2, 'decode_head.c1_in_channels': 96,
               'decode_head.channels': 512, 'auxiliary_head.in_channels': 384, 'auxiliary_head.in_index': 1,
               'backbone.out_indices': (0, 2, 3), 'backbone.output_stride': 8, 'pretrained': None}),
    ('mmseg::mobilenet_v2/mobilenet-v2-d8_fcn_4xb4-160k_ade20k-512x512.py', {
        'decode_head.in_channels': LAST, 'auxiliary_head.in_channels': 384, 'backbone.output_stride': 8}),
    ('mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py', {
        'decode_head.in_index': 1, 'auxiliary_head.in_index': 0, 'backbone.out_indices': (2, 3)}),
    ('mmseg::encnet/encnet_r50-d8_4xb4-160k_ade20k-512x512.py', {
        'decode_head.in_channels': [768], 'decode_head.in_index': (1,), 'backbone.out_indices': (2, 3)}),
    ('mmseg::ann/ann_r50-d8_4xb4-160k_ade20k-512x512.py', {
        'decode_head.in_channels': [384, 768], 'decode_head.in_index': [0, 1]}),
    ('mmseg::fastfcn/fastfcn_r50-d32_jpu_psp_4xb4-160k_ade20k-512x512.py', {
        'neck.in_channels': (192, 384, 768), 'auxiliary_head.in_channels': 384, 'auxiliary_head.in_index': 1,
        'decode_head.in_channels': 2048}),
    ('mmseg::ocrnet/ocrnet_hr18_4xb4-160k_ade20k-512x512.py', {
        'decode_head.0.in_channels': ALL, 'decode_head.1.in_channels': ALL, 'decode_head.0.channels': 270}),
    ('mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py', {
        'decode_head.kernel_generate_head.in_channels': LAST, 'decode_head.kernel_generate_head.in_index': 1,
        'decode_head.kernel_update_head.0.in_channels': 512}),
    ('mmseg::segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py', {
        'decode_head.in_channels': UPPER, 'decode_head.in_index': [0, 1, 2], 'backbone.out_indices': (1, 2, 3)}),
    ('mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py', {
        'neck': None, 'decode_head.in_channels': ALL, 'auxiliary_head.in_channels': 384}),
    ('mmseg::vit/vit_deit-b16_mln_upernet_8xb2-160k_ade20k-512x512.py', {
        'neck': None, 'decode_head.in_channels': ALL, 'auxiliary_head.in_channels': 768}),
    ('mmseg::segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py', {
        'decode_head.in_channels': LAST, 'decode_head.channels': 192, 'backbone.output_stride': 16}),
    ('mmseg::segmenter/segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py', {
        'decode_head.in_channels': LAST, 'decode_head.channels': LAST}),
    ('mmseg::swin/swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256.py', {
        'decode_head.in_channels': ALL, 'backbone.in_channels': 6}),
    ('mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
     {'neck.in_channels': ALL, 'decode_head.in_channels': [256] * 4}),
    ('mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py', {'decode_head.in_channels': ALL}),
]


@pytest.mark.parametrize(('name', 'expected'), EXPECTED, ids=lambda v: v.split('/')[-1] if isinstance(v, str) else '')
def test_channels_and_positions(name, expected):
    cfg = load(name)
    before = copy.deepcopy(plain(cfg.to_dict()))
    model = swap_backbone(cfg).model
    assert plain(cfg.to_dict()) == before, 'the given config is not changed'
    for path, wanted in expected.items():
        try:
            got = value(model, path)
        except KeyError:
            got = None
        assert got == wanted, path
        assert type(got) is type(wanted) or not isinstance(wanted, (tuple, int)), path
    backbones = [node for path, node in walk(plain(model)) if path and path[-1] == 'backbone']
    assert backbones
    for backbone in backbones:
        assert backbone['type'] == 'convnext_mm.ConvNeXt'
        assert set(backbone) <= {'type', 'arch', 'in_channels', 'out_indices', 'output_stride', 'drop_path_rate',
                                 'layer_scale_init_value', 'with_cp', 'init_cfg'}, 'no leftover of the old backbone'


def test_groups_divide_the_channels_of_necks_that_work_in_them():
    name = 'mmdet::rtmdet/rtmdet_l_convnext_b_4xb32-100e_coco.py'
    groups = {arch: swap_backbone(load(name), arch).model.neck.norm_cfg.num_groups for arch in ('tiny', 'atto')}
    assert groups == dict(tiny=32, atto=8)
    fpn = swap_backbone(load('mmdet::hrnet/fcos_hrnetv2p-w18-gn-head_4xb4-1x_coco.py'), 'atto')
    assert 'norm_cfg' not in fpn.model.neck or fpn.model.neck.norm_cfg.get('num_groups', 32) == 32


REFUSED = [
    ('mmseg::bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py', 'network of its own',
     'BiSeNetV1.*branches'),
    ('mmseg::icnet/icnet_r50-d8_4xb2-80k_cityscapes-832x832.py', 'network of its own', 'ICNet'),
    ('mmseg::stdc/stdc1_4xb12-80k_cityscapes-512x1024.py', 'network of its own', 'STDC'),
    ('mmseg::unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py', 'network of its own', 'UNet.*stride 1'),
    ('mmseg::mobilenet_v3/mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024.py', 'structure', 'stride 2'),
    ('mmseg::setr/setr_vit-l_pup_8xb2-160k_ade20k-512x512.py', 'structure', 'SETRUPHead.*several depths'),
    ('mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py', 'structure', 'DPTHead.*class token'),
    ('mmseg::san/san-vit-b16_coco-stuff164k-640x640.py', 'no image backbone', 'MultimodalEncoderDecoder'),
    ('mmdet::rtmdet/rtmdet_x_p6_4xb8-300e_coco.py', 'structure', 'CSPNeXtPAFPN.*stride 64'),
    ('mmdet::cornernet/cornernet_hourglass104_32xb3-210e-mstest_coco.py', 'structure', 'HourglassNet.*stacks'),
    ('mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py', 'structure', 'TridentResNet.*branches'),
    ('mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py', 'structure', 'shared_head'),
    ('mmdet::detectors/detectors_cascade-rcnn_r50_1x_coco.py', 'structure', 'RFP'),
    ('mmdet::nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco.py', 'structure', 'NASFCOS_FPN.*gradient'),
    ('mmdet::common/ms_3x_coco.py', 'no model in the config', 'part of configs'),
    ('mmdet::misc/d2_retinanet_r50-caffe_fpn_ms-90k_coco.py', 'package missing', 'detectron2'),
]


@pytest.mark.parametrize(('name', 'kind', 'message'), REFUSED, ids=lambda v: v.split('/')[-1][:40])
def test_refusals_say_why_in_one_line(name, kind, message):
    with pytest.raises(RefusedError, match=message) as info:
        swap_backbone(load(name))
    assert info.value.kind == kind
    assert '\n' not in str(info.value)


def test_declared_channels_must_be_those_of_the_backbone():
    cfg = load(CAFFE)
    cfg.model.neck.in_channels = [256, 512, 1024, 2000]
    with pytest.raises(RefusedError, match=r'FPN \(model.neck.in_channels\).*2000.*2048'):
        swap_backbone(cfg)
    cfg = load(DEEPLAB)
    cfg.model.auxiliary_head.in_index = 1
    with pytest.raises(RefusedError, match=r'FCNHead \(model.auxiliary_head\).*1024.*\[256, 512'):
        swap_backbone(cfg)


SOURCES = [
    RETINANET, DEEPLAB, MASK2FORMER, SWIN_MASK2FORMER, YOLOX, 'mmdet::atss/atss_r18_fpn_8xb8-amp-lsj-200e_coco.py',
    'mmdet::faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py', 'mmdet::regnet/retinanet_regnetx-800MF_fpn_1x_coco.py',
    'mmdet::pvt/retinanet_pvt-t_fpn_1x_coco.py', 'mmdet::pvt/retinanet_pvtv2-b0_fpn_1x_coco.py',
    'mmdet::hrnet/fcos_hrnetv2p-w18-gn-head_4xb4-1x_coco.py', 'mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py',
    'mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py', 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py', 'mmdet::ssd/ssd300_coco.py',
    'mmdet::efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco.py',
    'mmdet::res2net/faster-rcnn_res2net-101_fpn_2x_coco.py',
    'mmdet::resnest/faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco.py',
    'mmseg::mobilenet_v2/mobilenet-v2-d8_fcn_4xb4-160k_ade20k-512x512.py',
    'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    'mmseg::twins/twins_pcpvt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512.py',
    'mmseg::twins/twins_svt-s_uperhead_8xb2-160k_ade20k-512x512.py',
    'mmseg::segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py',
    'mmseg::poolformer/fpn_poolformer_s12_8xb4-40k_ade20k-512x512.py',
    'mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py',
    'mmseg::hrnet/fcn_hr18_4xb4-160k_ade20k-512x512.py',
]


@pytest.mark.parametrize('name', SOURCES, ids=lambda v: v.split('/')[-1])
def test_what_old_backbones_emit_is_what_they_emit(name):
    """The rules against the backbones themselves, built without memory."""
    cfg = load(name)
    backbone = {key: None if key == 'dcn' else value for key, value in plain(cfg.model.backbone.to_dict()).items()}
    declared = emitted(backbone, cfg.default_scope)
    dilated = any(a.stride == b.stride for a, b in zip(declared, declared[1:]))
    if dilated:
        with pytest.raises(RefusedError, match=re.escape(str([float(f.stride) for f in declared]))):
            measure_features(backbone, cfg.default_scope)
        return
    measured = measure_features(backbone, cfg.default_scope)
    assert [f.stride for f in declared] == [m.stride for m in measured]
    assert all(d.channels in (None, m.channels) for d, m in zip(declared, measured))
    if not name.endswith('dc5_1x_coco.py'):
        assert [f.level for f in declared] == [m.level for m in measured]


def test_unknown_backbones_are_measured_or_refused():
    pytest.importorskip('timm', reason='timm is not installed')
    model = swap_backbone(load('mmdet::timm_example/retinanet_timm-efficientnet-b1_fpn_1x_coco.py')).model
    assert (model.neck.in_channels, model.backbone.out_indices) == (UPPER, (1, 2, 3))
    cfg = load(CAFFE)
    cfg.model.backbone = dict(type='mmdet.NoSuchNet')
    with pytest.raises(RefusedError, match='mmdet.NoSuchNet emits is not known here') as info:
        swap_backbone(cfg)
    assert info.value.kind == 'package missing'


@pytest.mark.parametrize(('name', 'wanted'), [
    (CAFFE, dict(mean=[*MEAN], std=[*STD], bgr_to_rgb=True, pad_size_divisor=32)),
    (YOLOX, dict(mean=[*MEAN], std=[*STD], bgr_to_rgb=True, pad_size_divisor=32)),
    ('mmdet::detr/detr_r50_8xb2-150e_coco.py', dict(pad_size_divisor=32)),
    ('mmdet::fpg/mask-rcnn_r50_fpg_crop640-50e_coco.py', dict(pad_size_divisor=64)),
    ('mmseg::segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py',
     dict(mean=[*MEAN], std=[*STD], size=(512, 512))),
    ('mmseg::swin/swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256.py', dict(mean=[*MEAN] * 2, std=[*STD] * 2)),
])
def test_images_are_normalised_as_the_weights_expect(name, wanted):
    preprocessor = swap_backbone(load(name)).model.data_preprocessor
    assert {key: preprocessor[key] for key in wanted} == wanted


@pytest.mark.parametrize('count', [1, 2, 4, 6, 7])
@pytest.mark.parametrize('where', ['preprocessor', 'pipelines', 'both', 'neither'])
def test_statistics_of_other_channels_stay(count, where):
    cfg, values = load(CAFFE), dict(mean=[90. + i for i in range(count)], std=[30. + i for i in range(count)])
    cfg.model.backbone.in_channels = count
    cfg.model.data_preprocessor = dict(type='DetDataPreprocessor', mean=None, std=None, pad_size_divisor=1)
    if where in ('preprocessor', 'both'):
        cfg.model.data_preprocessor.update(values, bgr_to_rgb=False)
    if where in ('pipelines', 'both'):
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.dataset.pipeline.insert(2, dict(type='Normalize', to_rgb=False, **values))
    old, result = cfg.copy(), swap(cfg)
    assert result.config.model.data_preprocessor == {**old.model.data_preprocessor, 'pad_size_divisor': 32}
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert result.config[key] == old[key]
    assert result.config.model.backbone.in_channels == count
    assert any(f'images of {count} channels keep' in warning for warning in result.warnings)


@pytest.mark.parametrize('name', ['in_channels', 'in_chans', 'img_channels'])
def test_channels_of_the_images_by_any_name(name):
    cfg = load(CAFFE)
    cfg.model.backbone[name] = 5
    assert swap_backbone(cfg).model.backbone.in_channels == 5


def test_four_means_beside_three_channels_stay():
    cfg = load(CAFFE)
    cfg.model.data_preprocessor.update(mean=[1., 2., 3., 4.], std=[5.] * 4)
    assert swap_backbone(cfg).model.data_preprocessor.mean == [1., 2., 3., 4.]


def test_pipelines_that_normalise_are_changed_with_the_preprocessor():
    cfg = load(CAFFE)
    normalise = dict(type='Normalize', mean=[103.53, 116.28, 123.675], std=[1., 1., 1.], to_rgb=False)
    cfg.train_dataloader.dataset.pipeline.insert(2, normalise)
    cfg.model.data_preprocessor = dict(type='DetDataPreprocessor', pad_size_divisor=32)
    changed = swap_backbone(cfg)
    assert changed.train_dataloader.dataset.pipeline[2] == dict(normalise, mean=[*MEAN], std=[*STD], to_rgb=True)
    assert 'mean' not in changed.model.data_preprocessor
    expands = [node for _, node in walk(plain(swap_backbone(load(
        'mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py')).train_dataloader.to_dict())) if node.get('type') == 'Expand']
    assert expands and all((node['mean'], node['to_rgb']) == ([*MEAN], True) for node in expands)


def test_albumentations_normalise_by_themselves():
    cfg = load(CAFFE)
    albu = dict(type='Albu', transforms=[dict(type='Normalize', mean=[.485, .456, .406], std=[.229, .224, .225])])
    cfg.train_dataloader.dataset.pipeline.insert(2, albu)
    result = swap(cfg)
    assert result.config.train_dataloader.dataset.pipeline[2] == albu
    assert any('Albu' in warning for warning in result.warnings)
    assert result.config.model.data_preprocessor.mean == [*MEAN]
    assert not any('Albu' in warning for warning in swap(load(CAFFE)).warnings)


def test_crops_of_a_tracker_are_normalised_too():
    cfg = load('mmdet::strongsort/strongsort_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py')
    wanted = cfg.model.tracker.reid.img_norm_cfg.copy()
    assert swap_backbone(cfg).model.tracker.reid.img_norm_cfg == wanted
    cfg.model.tracker.reid.img_norm_cfg = dict(mean=[103.53, 116.28, 123.675], std=[1., 1., 1.], to_rgb=False)
    assert swap_backbone(cfg).model.tracker.reid.img_norm_cfg == wanted


def test_leftovers_and_warnings():
    result = swap(load('mmdet::cityscapes/mask-rcnn_r50_fpn_1x_cityscapes.py'))
    assert result.config.load_from is None
    assert any('load_from' in warning for warning in result.warnings)
    result = swap(load('mmdet::ld/ld_r18-gflv1-r101_fpn_1x_coco.py'))
    assert any('teacher stays' in warning for warning in result.warnings)
    assert result.config.model.teacher_config.endswith('.py')


@pytest.mark.parametrize(('frozen', 'kept'), [(1, None), (0, None), (-1, None), (2, 2), (4, 4)])
def test_only_deliberate_freezing_is_carried_over(frozen, kept):
    cfg = load(CAFFE)
    cfg.model.backbone.frozen_stages = frozen
    assert swap_backbone(cfg).model.backbone.get('frozen_stages') == kept


def rows(prefix, arch):
    return [row for row in published()['coco'] + published()['ade20k']
            if row['config'].startswith(prefix) and row['arch'] == arch]


@pytest.mark.parametrize(('name', 'prefix', 'arch'), [
    (MASK_RCNN, 'mask_rcnn/', 'tiny'), (CASCADE, 'cascade/', 'small'), (CASCADE, 'cascade/', 'xlarge'),
    (UPERNET, 'upernet/', 'base'), (UPERNET, 'upernet/', 'xlarge')])
def test_families_of_the_paper_take_its_values(name, prefix, arch):
    row, cfg = rows(prefix, arch)[0], load(name)
    new = swap_backbone(cfg, arch)
    assert new.optim_wrapper.optimizer == dict(type='AdamW', lr=row['lr'], betas=tuple(row['betas']), weight_decay=.05)
    assert new.optim_wrapper.paramwise_cfg == dict(decay_rate=row['decay_rate'], decay_type=row['decay_type'])
    assert new.model.backbone.drop_path_rate == row['drop_path_rate']
    assert weights()[new.model.backbone.init_cfg.checkpoint].url == row['backbone_weights']
    assert new.get('auto_scale_lr') == cfg.get('auto_scale_lr')


def test_adamw_configs_keep_their_rate_and_head_groups():
    for name in (MASK2FORMER, SWIN_MASK2FORMER):
        old, new = load(name), swap_backbone(load(name))
        assert new.optim_wrapper.optimizer == old.optim_wrapper.optimizer
        assert new.optim_wrapper.clip_grad == old.optim_wrapper.clip_grad
        assert new.param_scheduler == old.param_scheduler
        keys = new.optim_wrapper.paramwise_cfg.custom_keys
        assert set(keys) == {'backbone', 'query_embed', 'query_feat', 'level_embed'}
        assert keys.backbone == dict(lr_mult=.1)


def test_schedule_stays_and_its_floor_follows_the_rate():
    old, new = load(DEEPLAB), swap_backbone(load(DEEPLAB))
    assert old.param_scheduler[0].eta_min == 1e-4, 'the new rate itself'
    assert new.param_scheduler == [dict(old.param_scheduler[0], eta_min=1e-6)]
    assert new.train_cfg == old.train_cfg
    old, new = load(CASCADE), swap_backbone(load(CASCADE))
    assert new.param_scheduler == old.param_scheduler


def test_the_floor_of_a_momentum_is_no_rate():
    cfg = load(CASCADE)
    momentum = dict(type='CosineAnnealingMomentum', eta_min=.85, T_max=12)
    cfg.param_scheduler = [momentum, dict(type='CosineAnnealingLR', eta_min=.002, T_max=12)]
    changed = swap_backbone(cfg)
    rate = changed.optim_wrapper.optimizer.lr
    assert changed.param_scheduler == [momentum, dict(type='CosineAnnealingLR', eta_min=.1 * rate, T_max=12)]


def test_optimizer_can_stay():
    old, new = load(DEEPLAB), swap_backbone(load(DEEPLAB), optimizer=False)
    assert (new.optim_wrapper, new.param_scheduler) == (old.optim_wrapper, old.param_scheduler)
    assert swap_backbone(load('mmdet::solo/solo_r50_fpn_8xb8-lsj-200e_coco.py')).optim_wrapper.type == 'AmpOptimWrapper'


@pytest.mark.parametrize(('arch', 'pretrained', 'wanted'), [
    ('tiny', 'auto', 'convnext_tiny_in1k'), ('large', 'auto', 'convnext_large_in22k'),
    ('nano', 'auto', 'convnextv2_nano_in1k_ema'), ('tiny', 'convnextv2_tiny_in22k_in1k_ema', None),
    ('tiny', 'weights/mine.pth', None), ('tiny', 'convnextv2/mine.pth', None), ('tiny', None, 'none'),
    (dict(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32)), 'auto', 'none')])
def test_weights(arch, pretrained, wanted):
    backbone = swap_backbone(load(CAFFE), arch, pretrained=pretrained).model.backbone
    wanted = wanted or pretrained
    assert backbone.get('init_cfg') == (None if wanted == 'none' else dict(type='Pretrained', checkpoint=wanted))
    v2 = 'v2' in wanted.split('/')[-1]
    assert (backbone.get('use_grn', False), backbone.layer_scale_init_value) == (v2, 0. if v2 else 1.)


@pytest.mark.parametrize(('arguments', 'error', 'message'), [
    (dict(arch='huge'), ArgumentValueError, 'arch.*huge'),
    (dict(pretrained=3), ArgumentTypeError, 'pretrained.*got 3'),
    (dict(pretrained='convnext_base_in1k'), ArgumentValueError, "convnext_base_in1k.*arch 'base'.*'tiny'"),
    (dict(pretrained='convnext_tinny_in1k'), CheckpointError, 'convnext_tinny_in1k.*did you mean convnext_tiny_in1k'),
    (dict(optimizer='yes'), ArgumentTypeError, 'optimizer.*yes'),
    (dict(output_stride=4), ArgumentValueError, 'output_stride.*got 4'),
    (dict(cfg='a.py'), ArgumentTypeError, "cfg.*Config.*'a.py'")])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        swap_backbone(**{'cfg': load(CAFFE), **arguments})


@pytest.mark.parametrize(('name', 'stride'), [(DEEPLAB, 32), (DEEPLAB, 16), (UPERNET, 8), (CAFFE, 16)])
def test_output_stride_can_be_chosen(name, stride):
    result = swap(load(name), output_stride=stride)
    assert result.config.model.backbone.get('output_stride', 32) == stride
    # The heads of detectors count in strides, those of segmentors do not.
    assert any('strides that necks and heads declare' in w for w in result.warnings) == (name == CAFFE)
