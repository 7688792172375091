"""Swapped models built and trained for a step: one or more of each kind of consumer, and what verification finds."""
import pytest
import torch
from mmengine.config import Config

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

from convnext_mm.swap import verify as module
from convnext_mm.swap.errors import MissingPackageError, NoKernelError, VerificationError
from convnext_mm.swap.stand_alone import make_stand_alone
from convnext_mm.swap.swap import swap
from convnext_mm.swap.verify import verify
from convnext_mm.utils.config_files import find_config, leaf_configs

WORKING = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmdet::faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
    'mmdet::pafpn/faster-rcnn_r50_pafpn_1x_coco.py',
    'mmdet::libra_rcnn/libra-retinanet_r50_fpn_1x_coco.py',
    'mmdet::nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py',
    'mmdet::hrnet/fcos_hrnetv2p-w18-gn-head_4xb4-1x_coco.py',
    'mmdet::dyhead/atss_r50_fpn_dyhead_1x_coco.py',
    'mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py',
    'mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py',
    'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
    'mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py',
    'mmdet::ssd/ssd300_coco.py',
    'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
    'mmdet::centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco.py',
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'mmdet::rtmdet/classification/cspnext-s_8xb256-rsb-a1-600e_in1k.py',
    'mmdet::faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py',
    'mmdet::rpn/rpn_r50-caffe-c4_1x_coco.py',
    'mmdet::detr/detr_r18_8xb2-500e_coco.py',
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
    'mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
    'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    'mmdet::condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
    'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',
    'mmdet::ld/ld_r18-gflv1-r101_fpn_1x_coco.py',
    'mmdet::reid/reid_r50_8xb32-6e_mot15train80_test-mot15val20.py',
    'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',
    'mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',
    'mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',
    'mmdet::strongsort/strongsort_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py',
    'mmdet::bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py',
    'mmdet::paa/paa_r50_fpn_1x_coco.py',
    'mmdet::glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py',
    'mmdet::clrnet/clrnet.py',
    'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py',
    'mmseg::mobilenet_v2/mobilenet-v2-d8_fcn_4xb4-160k_ade20k-512x512.py',
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    'mmseg::encnet/encnet_r50-d8_4xb4-160k_ade20k-512x512.py',
    'mmseg::ann/ann_r50-d8_4xb4-160k_ade20k-512x512.py',
    'mmseg::fastfcn/fastfcn_r50-d32_jpu_psp_4xb4-160k_ade20k-512x512.py',
    'mmseg::ocrnet/ocrnet_hr18_4xb4-160k_ade20k-512x512.py',
    'mmseg::ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024.py',
    'mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py',
    'mmseg::segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py',
    'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    'mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py',
    'mmseg::vit/vit_deit-b16_upernet_8xb2-80k_ade20k-512x512.py',
    'mmseg::segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py',
    'mmseg::segmenter/segmenter_vit-s_fcn_8xb1-160k_ade20k-512x512.py',
    'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
    'mmseg::point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py',
    'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
]


def swapped(name):
    return swap(Config.fromfile(find_config(name)), 'atto', pretrained=None).config


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize('name', WORKING, ids=lambda v: v.split('/')[-1][:-3])
def test_swapped_models_train(name):
    package, _, inner = name.partition('::')
    if inner not in leaf_configs(package):
        pytest.skip(f'this {package} does not have it')
    try:
        seen = verify(swapped(name))
    except MissingPackageError as error:
        pytest.skip(f'the original needs what is not installed here: {error}')
    assert seen.loss > 0
    assert seen.parameters > 1e6


def test_settings_need_neither_files_nor_an_accelerator(tmp_path):
    model = make_stand_alone(dict(
        type='GroundingDINO', use_autocast=True, encoder=dict(num_cp=6), pretrained='a.pth',
        postprocess_model=dict(type='AppearanceFreeLink', checkpoint='b.pth'),
        bbox_head=dict(type='ATSSVLFusionHead')), tmp_path)
    assert 'use_autocast' not in model and (model['encoder']['num_cp'], model['pretrained']) == (0, None)
    assert model['train_cfg']['assigner']['type'] == 'HungarianAssigner'
    kept = make_stand_alone(dict(type='GroundingDINO', train_cfg=dict(assigner=dict(type='Mine'))), tmp_path)
    assert kept['train_cfg']['assigner']['type'] == 'Mine'
    assert model['postprocess_model']['checkpoint'] is None
    assert model['bbox_head']['loss_bbox']['type'] == 'GIoULoss'


def test_wrong_channels_are_found():
    cfg = swapped(WORKING[0])
    cfg.model.neck.in_channels = [80, 160, 321]
    with pytest.raises(VerificationError, match='loss: .*321') as info:
        verify(cfg)
    assert info.value.stage == 'loss'


def test_an_output_that_nobody_reads_is_found():
    cfg = swapped(WORKING[0])
    cfg.model.backbone.pop('out_indices')
    cfg.model.neck.update(in_channels=[40, 80, 160, 320], start_level=1)
    with pytest.raises(VerificationError, match='2 parameters get no gradient: backbone.norm0.weight') as info:
        verify(cfg)
    assert info.value.stage == 'gradients'


def test_a_model_that_kept_its_backbone_is_found():
    with pytest.raises(VerificationError, match='no ConvNeXt'):
        verify(Config.fromfile(find_config(WORKING[0])))


def test_a_constructor_that_does_not_fit_is_found():
    cfg = swapped(WORKING[0])
    cfg.optim_wrapper.paramwise_cfg.layers = 3
    with pytest.raises(VerificationError, match='optimizer: .*paramwise_cfg takes .*layers'):
        verify(cfg)


def test_operators_without_cpu_kernel_are_named():
    with pytest.raises(NoKernelError, match='carafe has no CPU kernel') as info:
        verify(swapped('mmdet::carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py'))
    assert info.value.operator == 'carafe'


def test_missing_packages_are_named(monkeypatch):
    import mmdet.models.trackers.byte_tracker as module
    monkeypatch.setattr(module, 'lap', None)
    with pytest.raises(MissingPackageError, match='lap is not installed'):
        verify(swapped('mmdet::bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval.py'))


@pytest.mark.parametrize(('errors', 'raised'), [
    ([('loss', 'A'), ('loss', 'B'), ('prediction', 'C')], 'A'), ([('loss', 'A'), ('build', 'B')], 'A'),
    ([('build', 'A')], 'A'), ([('loss', 'A'), None], None), ([('loss', 'A'), ('kernel', 'roi_pool')], 'roi_pool')])
def test_the_first_error_of_several_sizes_is_raised(errors, raised, monkeypatch):
    trials = iter(errors)

    def step(cfg, settings, size, swapped):
        error = next(trials)
        if error is None:
            return 1., 2
        raise NoKernelError('loss', error[1]) if error[0] == 'kernel' else VerificationError(*error)

    monkeypatch.setattr(module, '_step', step)
    if raised is None:
        assert verify(swapped(WORKING[0])).loss == 1
    else:
        with pytest.raises(VerificationError, match=raised):
            verify(swapped(WORKING[0]))
    assert next(trials, None) is None


@pytest.mark.parametrize('text', ['', 'too few points'])
def test_the_error_of_prediction_is_raised_not_that_of_its_fallback(text, monkeypatch):
    from mmdet.models.detectors import RetinaNet

    def fail(self, *args, mode, **kwargs):
        if mode == 'predict':
            raise AssertionError(text)
        if mode == 'tensor':
            raise KeyError('the fallback')
        return forward(self, *args, mode=mode, **kwargs)

    forward = RetinaNet.forward
    monkeypatch.setattr(module, 'SIZES', module.SIZES[:1])
    monkeypatch.setattr(RetinaNet, 'forward', fail)
    with pytest.raises(VerificationError) as info:
        verify(swapped(WORKING[0]))
    assert str(info.value).startswith(f'prediction: AssertionError{": " + text if text else " in fail, "}')
    assert text or 'test_verify.py:' in str(info.value)
