"""The thirteen configs against the paper: every published field, every learning rate, every model.

A field of ``paper.json`` is compared with what the config says; where the published field is a sentence, the
sentence is written anew from the config. Each field is in a table below or named there as no hyperparameter.
"""
import ast
import inspect
import re
import runpy
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

from convnext_mm.engine.optimizers.layer_decay import derive_num_layers
from convnext_mm.published.archs import ARCHS
from convnext_mm.published.paper import published, recipe
from convnext_mm.published.weights import weights
from tests.helpers.paths import ROOT

REGISTRIES = {toolbox: pytest.importorskip(f'{toolbox}.registry', reason=f'the configs need {toolbox}')
              for toolbox in ('mmdet', 'mmseg')}
COCO, ADE20K, RECIPES = (published()[key] for key in ('coco', 'ade20k', 'recipes'))
COMMON_KEYS = {
    'model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator', 'train_cfg',
    'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'amp_dtype', 'default_scope',
    'default_hooks', 'custom_hooks', 'custom_imports', 'env_cfg', 'visualizer', 'log_processor', 'log_level',
    'load_from', 'resume',
    'max_bad_samples'}
ADE20K_KEYS = {'crop_size', 'test_pipeline', 'tta_model', 'tta_pipeline', 'tta_test_cfg'}


def rows(*rows):
    return pytest.mark.parametrize('row', rows, ids=[row['config'] for row in rows])


all_rows, coco_rows, ade20k_rows = rows(*COCO, *ADE20K), rows(*COCO), rows(*ADE20K)


@cache
def load(config):
    return Config.fromfile(ROOT / 'configs' / config)


@cache
def build(config):
    """The whole model, without memory for its parameters; in eval mode, where batch norm takes any batch."""
    cfg = load(config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return REGISTRIES[cfg.default_scope].MODELS.build(cfg.model).eval()


def plain(value):
    """Dicts and lists of the plain kind, as JSON has them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def same(*values):
    """The value that all places of a config agree on."""
    assert all(plain(value) == plain(values[0]) for value in values), values
    return values[0]


def one(pipeline, name):
    """The one transform of that type."""
    transform, = (t for t in pipeline if t.type == name)
    return transform


# Rows: field -> the config's value.

def checkpoint(cfg):
    """The published weights that the backbone starts from."""
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'
    return weights()[cfg.model.backbone.init_cfg.checkpoint]


def amp(cfg):
    """Whether float16 autocast with a dynamic loss scale is on; what is not mixed must be plain float32."""
    wrapper = cfg.optim_wrapper
    if wrapper.type != 'AmpOptimWrapper':
        assert wrapper.type == 'OptimWrapper'
        return False
    parameters = inspect.signature(AmpOptimWrapper).parameters
    assert wrapper.get('loss_scale', parameters['loss_scale'].default) == 'dynamic'
    assert wrapper.get('dtype', parameters['dtype'].default) in (None, 'float16')
    return True


def warmup(cfg):
    linear = cfg.param_scheduler[0]
    assert (linear.type, linear.begin, linear.by_epoch) == ('LinearLR', 0, False)
    return linear


def poly(cfg):
    poly = cfg.param_scheduler[1]
    assert (poly.type, poly.begin, poly.by_epoch) == ('PolyLR', 0, False)
    return f'poly, power {poly.power}, min_lr {poly.eta_min:g}'


def crop_size(cfg):
    crop = one(cfg.train_dataloader.dataset.pipeline, 'RandomCrop')
    return same(cfg.crop_size, cfg.model.data_preprocessor.size, cfg.model.test_cfg.crop_size, crop.crop_size)


METHODS = {'MaskRCNN': 'Mask R-CNN', 'CascadeRCNN': 'Cascade Mask R-CNN', 'EncoderDecoder': 'UPerNet'}
GPUS = 8
FIELDS = {
    'method': lambda cfg: METHODS[cfg.model.type],
    'arch': lambda cfg: same(cfg.model.backbone.arch, checkpoint(cfg).arch),
    'pretrain': lambda cfg: checkpoint(cfg).data,
    'backbone_weights': lambda cfg: checkpoint(cfg).url,
    'drop_path_rate': lambda cfg: cfg.model.backbone.drop_path_rate,
    'layer_scale_init_value': lambda cfg: cfg.model.backbone.layer_scale_init_value,
    'lr': lambda cfg: cfg.optim_wrapper.optimizer.lr,
    'betas': lambda cfg: cfg.optim_wrapper.optimizer.betas,
    'weight_decay': lambda cfg: cfg.optim_wrapper.optimizer.weight_decay,
    'decay_rate': lambda cfg: cfg.optim_wrapper.paramwise_cfg.decay_rate,
    'decay_type': lambda cfg: cfg.optim_wrapper.paramwise_cfg.decay_type,
    'num_layers': lambda cfg: derive_num_layers(ARCHS[cfg.model.backbone.arch].depths),
    'amp': amp,
    'batch_size': lambda cfg: same(cfg.auto_scale_lr.base_batch_size, GPUS * cfg.train_dataloader.batch_size),
    'max_epochs': lambda cfg: cfg.train_cfg.max_epochs,
    'milestones': lambda cfg: one(cfg.param_scheduler, 'MultiStepLR').milestones,
    'max_iters': lambda cfg: cfg.train_cfg.max_iters,
    'warmup_iters': lambda cfg: warmup(cfg).end - 1,
    'warmup_ratio': lambda cfg: warmup(cfg).start_factor,
    'schedule': poly,
    'crop_size': crop_size,
    'slide_stride': lambda cfg: cfg.model.test_cfg.stride,
}
#: What a config does not say: its path, and what came of training it.
RESULTS = {'config', 'params_m', 'flops_g', 'flops_shape', 'fps_a100', 'finetuned_weights', 'box_ap', 'box_ap50',
           'box_ap75', 'mask_ap', 'mask_ap50', 'mask_ap75', 'miou_single_scale', 'miou_multi_scale_flip'}


@pytest.mark.parametrize(('row', 'field'), [pytest.param(row, field, id=f'{row["config"]}-{field}')
                                            for row in COCO + ADE20K for field in row if field not in RESULTS])
def test_row(row, field):
    assert plain(FIELDS[field](load(row['config']))) == row[field]


# Recipes: recipe -> field -> the config's value.

def coco_branches(cfg):
    first, second = one(cfg.train_dataloader.dataset.pipeline, 'RandomChoice').transforms
    return first, second


def short_sides(transforms):
    """Short sides and the longest side of the one random resize in ``transforms``."""
    resize, = transforms
    assert (resize.type, resize.keep_ratio) == ('RandomChoiceResize', True)
    shorts, longs = zip(*resize.scales)
    return shorts, same(*longs)


def branch_a(cfg):
    shorts, longest = short_sides(coco_branches(cfg)[0])
    step = same(*np.diff(shorts).tolist())
    return (f'resize: one of short sides {shorts[0]},{shorts[1]},...,{shorts[-1]} (step {step}), '
            f'long side <= {longest}')


def branch_b(cfg):
    a, (*resize, crop, last) = coco_branches(cfg)
    shorts, longest = short_sides(resize)
    assert (crop.type, crop.crop_type) == ('RandomCrop', 'absolute_range')
    assert plain([last]) == plain(a)
    return (f'resize: one of {",".join(map(str, shorts))} (long <= {longest}); absolute-range crop {crop.crop_size}, '
            f'negative crops {"" if crop.allow_negative_crop else "not "}allowed; then branch_a resize')


def choice(cfg):
    return 'uniform between a and b' if 'prob' not in one(cfg.train_dataloader.dataset.pipeline, 'RandomChoice') else ''


def flip(cfg):
    transform = one(cfg.train_dataloader.dataset.pipeline, 'RandomFlip')
    assert transform.get('direction', 'horizontal') == 'horizontal'
    return transform.prob


def coco_warmup(cfg):
    where = 'the schedule_1x base of mmdetection 2.x that the official leaves inherit'
    return f'linear, {warmup(cfg).end - 1} iterations from ratio {warmup(cfg).start_factor} ({where})'


PIXELS = {
    'mean': lambda cfg: cfg.model.data_preprocessor.mean,
    'std': lambda cfg: cfg.model.data_preprocessor.std,
    'rgb': lambda cfg: cfg.model.data_preprocessor.bgr_to_rgb,
}
COCO_RECIPES = {
    'coco_train_pipeline': {
        'branch_a': branch_a,
        'branch_b': branch_b,
        'choice': choice,
        'flip': flip,
        'pad_divisor': lambda cfg: cfg.model.data_preprocessor.pad_size_divisor,
        'warmup': coco_warmup,
        **PIXELS,
    },
}
RPN_AND_RCNN = {
    'rpn_loss_bbox': lambda cfg: cfg.model.rpn_head.loss_bbox,
    'anchors': lambda cfg: cfg.model.rpn_head.anchor_generator,
    'train': lambda cfg: cfg.model.train_cfg,
    'test': lambda cfg: cfg.model.test_cfg,
}
MASK_RCNN_RECIPES = {
    'mask_rcnn_settings': {
        'box_head_loss_bbox': lambda cfg: cfg.model.roi_head.bbox_head.loss_bbox,
        **RPN_AND_RCNN,
    },
}


def heads(cfg, key):
    """What the box heads of all stages have under ``key``."""
    return same(*(head[key] for head in cfg.model.roi_head.bbox_head))


def cascade_head(cfg):
    assert heads(cfg, 'type') == 'ConvFCBBoxHead'
    return (f'{heads(cfg, "num_shared_convs")} conv + {heads(cfg, "num_shared_fcs")} fc, '
            f'{heads(cfg, "conv_out_channels")} conv channels, {heads(cfg, "fc_out_channels")} fc channels, '
            f'{heads(cfg, "norm_cfg").type}')


def cascade_box_loss(cfg):
    loss = heads(cfg, 'loss_bbox')
    return (f'{loss.type[:-len("Loss")]}, weight {loss.loss_weight:g}, '
            f'on {"decoded boxes" if heads(cfg, "reg_decoded_bbox") else "deltas"}')


def cascade_thresholds(cfg):
    return [same(assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.min_pos_iou)
            for assigner in (stage.assigner for stage in cfg.model.train_cfg.rcnn)]


CASCADE_RECIPES = {
    'cascade_heads': {
        'stages': lambda cfg: same(cfg.model.roi_head.num_stages, len(cfg.model.roi_head.bbox_head)),
        'head': cascade_head,
        'box_loss': cascade_box_loss,
        'reg_class_agnostic': lambda cfg: heads(cfg, 'reg_class_agnostic'),
        'target_stds': lambda cfg: [head.bbox_coder.target_stds for head in cfg.model.roi_head.bbox_head],
        'iou_thresholds': cascade_thresholds,
    },
    'cascade_settings': {
        'stage_loss_weights': lambda cfg: cfg.model.roi_head.stage_loss_weights,
        **RPN_AND_RCNN,
    },
}


def scale_in_testing(cfg):
    resize = one(same(cfg.val_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline), 'Resize')
    assert resize.keep_ratio is True
    return resize.scale



def scales(cfg, scale):
    """``scale`` at its place among those of both crops: the config's own, and the one of the other crop."""
    return [scale if crop_size(cfg)[0] == side else (4 * side, side) for side in (512, 640)]


def random_resize(cfg):
    resize = one(cfg.train_dataloader.dataset.pipeline, 'RandomResize')
    assert resize.keep_ratio is True
    small, large = scales(cfg, resize.scale)
    low, high = resize.ratio_range
    return f'random ratio {low} to {high} of {small}; of {large} for 640 crops'


def tta(cfg):
    """Resizes, flips and the rest of the multi-scale pipeline."""
    augment = one(cfg.tta_pipeline, 'TestTimeAug')
    resizes, flips, *rest = augment.transforms
    assert {t.type for t in resizes} == {'Resize'}
    assert {t.type for t in flips} == {'RandomFlip'}
    assert [t.type for t, in rest] == ['LoadAnnotations', 'PackSegInputs']
    return resizes, flips


def tta_ratios(cfg):
    return [same(*(side / base for side, base in zip(resize.scale, scale_in_testing(cfg)))) for resize in tta(cfg)[0]]


def tta_scales(cfg):
    assert all(resize.keep_ratio and 'scale_factor' not in resize for resize in tta(cfg)[0])
    small, large = scales(cfg, scale_in_testing(cfg))
    return f'ratios multiply {small}, or {large} for 640 crops, not the raw image'


def tta_flip(cfg):
    return [(t.prob, t.direction) for t in tta(cfg)[1]] == [(0, 'horizontal'), (1, 'horizontal')]


def reduce_zero_label(cfg):
    """The datasets say it; mmseg's loading takes it from there unless told otherwise."""
    datasets = [loader.dataset for loader in (cfg.train_dataloader, cfg.val_dataloader)]
    for pipeline in (*(dataset.pipeline for dataset in datasets), one(cfg.tta_pipeline, 'TestTimeAug').transforms[2]):
        assert 'reduce_zero_label' not in one(pipeline, 'LoadAnnotations')
    return same(*(dataset.reduce_zero_label for dataset in datasets))


def both_heads(key):
    return lambda cfg: same(cfg.model.decode_head[key], cfg.model.auxiliary_head[key])


def photometric(cfg):
    return 'PhotoMetricDistortion' in [t.type for t in cfg.train_dataloader.dataset.pipeline]


ADE20K_RECIPES = {
    'ade20k_train_pipeline': {
        'reduce_zero_label': reduce_zero_label,
        'resize': random_resize,
        'crop_cat_max_ratio': lambda cfg: one(cfg.train_dataloader.dataset.pipeline, 'RandomCrop').cat_max_ratio,
        'flip': flip,
        'photometric_distortion': photometric,
        'test_scale': lambda cfg: '{} or {}, keep ratio'.format(*scales(cfg, scale_in_testing(cfg))),
    },
    'ade20k_single_scale_test': {'mode': lambda cfg: cfg.model.test_cfg.mode},
    'ade20k_multi_scale_test': {
        'ratios': tta_ratios,
        'flip': tta_flip,
        'mode': lambda cfg: cfg.tta_test_cfg.mode,
        'scales': tta_scales,
    },
    'upernet_settings': {
        'pool_scales': lambda cfg: cfg.model.decode_head.pool_scales,
        'channels': lambda cfg: cfg.model.decode_head.channels,
        'aux_channels': lambda cfg: cfg.model.auxiliary_head.channels,
        'aux_convs': lambda cfg: cfg.model.auxiliary_head.num_convs,
        'aux_in_index': lambda cfg: cfg.model.auxiliary_head.in_index,
        'dropout_ratio': both_heads('dropout_ratio'),
        'loss_weight': lambda cfg: cfg.model.decode_head.loss_decode.loss_weight,
        'aux_loss_weight': lambda cfg: cfg.model.auxiliary_head.loss_decode.loss_weight,
        'norm': lambda cfg: both_heads('norm_cfg')(cfg).type,
        'align_corners': both_heads('align_corners'),
    },
}
FAMILIES = {
    'mask_rcnn': {**COCO_RECIPES, **MASK_RCNN_RECIPES},
    'cascade': {**COCO_RECIPES, **CASCADE_RECIPES},
    'upernet': ADE20K_RECIPES,
}
#: Checked elsewhere: in `test_row` and `test_learning_rates`.
OTHER_RECIPES = {'weights_used', 'ade20k_schedule'}


def family(row):
    return row['config'].split('/')[0]


@pytest.mark.parametrize(
    ('row', 'name', 'field'),
    [pytest.param(row, name, field, id=f'{row["config"]}-{name}-{field}')
     for row in COCO + ADE20K for name, fields in FAMILIES[family(row)].items() for field in fields])
def test_recipe(row, name, field):
    assert plain(FAMILIES[family(row)][name][field](load(row['config']))) == RECIPES[name][field]


def test_no_published_field_is_left_out():
    assert {field for row in COCO + ADE20K for field in row} == set(FIELDS) | RESULTS
    recipes = {name: fields for recipes in FAMILIES.values() for name, fields in recipes.items()}
    assert set(RECIPES) == set(recipes) | OTHER_RECIPES
    for name, fields in recipes.items():
        assert set(RECIPES[name]) == set(fields), name


# What both toolboxes' users expect around the published part.

@all_rows
def test_pixels(row):
    """The segmentors' normalisation is the detectors': that of the weights."""
    cfg = load(row['config'])
    assert {key: plain(value(cfg)) for key, value in PIXELS.items()} == {
        key: RECIPES['coco_train_pipeline'][key] for key in PIXELS}


@coco_rows
def test_coco(row):
    cfg = load(row['config'])
    assert cfg.default_scope == 'mmdet'
    assert plain(cfg.train_cfg) == {'type': 'EpochBasedTrainLoop', 'max_epochs': 36, 'val_interval': 1}
    assert cfg.default_hooks.checkpoint.interval == 1
    assert cfg.default_hooks.visualization.type == 'DetVisualizationHook'
    assert cfg.visualizer.type == 'DetLocalVisualizer'
    assert cfg.log_processor.by_epoch is True
    assert cfg.model.data_preprocessor.type == 'DetDataPreprocessor'
    assert cfg.model.data_preprocessor.pad_mask is True
    for dataset, split in ((cfg.train_dataloader.dataset, 'train'), (cfg.val_dataloader.dataset, 'val')):
        assert (dataset.type, dataset.data_root) == ('CocoDataset', 'data/coco/')
        assert dataset.ann_file == f'annotations/instances_{split}2017.json'
        assert dataset.data_prefix.img == f'{split}2017/'
        assert one(dataset.pipeline, 'LoadAnnotations').with_mask is True
    assert plain(cfg.train_dataloader.dataset.filter_cfg) == {'filter_empty_gt': True, 'min_size': 32}
    assert plain(cfg.test_dataloader) == plain(cfg.val_dataloader)
    assert scale_in_testing(cfg) == (1333, 800)
    assert plain(cfg.val_evaluator) == plain(cfg.test_evaluator) == {
        'type': 'CocoMetric', 'ann_file': 'data/coco/annotations/instances_val2017.json', 'metric': ['bbox', 'segm']}
    assert same(cfg.model.roi_head.mask_head.num_classes,
                *(head.num_classes for head in np.ravel(cfg.model.roi_head.bbox_head))) == 80


def cross_entropy(loss_weight=1.0, **kind):
    return {'type': 'CrossEntropyLoss', 'loss_weight': loss_weight, **kind}


@coco_rows
def test_detector_parts_that_the_paper_leaves_to_mmdet(row):
    """`facebookresearch/ConvNeXt` ``object_detection/configs/_base_/models``, where ``paper.json`` is silent."""
    model = load(row['config']).model
    rpn, roi = model.rpn_head, model.roi_head
    assert plain(model.neck) == {'type': 'FPN', 'in_channels': list(ARCHS[row['arch']].channels),
                                 'out_channels': 256, 'num_outs': 5}
    assert plain(rpn.loss_cls) == cross_entropy(use_sigmoid=True)
    coder = {'type': 'DeltaXYWHBBoxCoder', 'target_means': [0, 0, 0, 0]}
    assert plain(rpn.bbox_coder) == {**coder, 'target_stds': [1, 1, 1, 1]}
    for extractor, size in ((roi.bbox_roi_extractor, 7), (roi.mask_roi_extractor, 14)):
        assert plain(extractor.roi_layer) == {'type': 'RoIAlign', 'output_size': size, 'sampling_ratio': 0}
        assert plain(extractor.featmap_strides) == [4, 8, 16, 32]
    for head in np.ravel(roi.bbox_head):
        assert {**plain(head.bbox_coder), **coder} == plain(head.bbox_coder)
        assert plain(head.loss_cls) == cross_entropy(use_sigmoid=False)
    assert roi.mask_head.num_convs == 4
    assert plain(roi.mask_head.loss_mask) == cross_entropy(use_mask=True)


@ade20k_rows
def test_segmentor_parts_that_the_paper_leaves_to_mmseg(row):
    """`facebookresearch/ConvNeXt` ``semantic_segmentation/configs/_base_/models``, as above."""
    model = load(row['config']).model
    assert (model.decode_head.type, model.auxiliary_head.type) == ('UPerHead', 'FCNHead')
    assert plain(model.decode_head.in_index) == [0, 1, 2, 3]
    assert model.auxiliary_head.concat_input is False
    assert plain(model.decode_head.loss_decode) == cross_entropy(use_sigmoid=False)
    assert plain(model.auxiliary_head.loss_decode) == cross_entropy(0.4, use_sigmoid=False)


@ade20k_rows
def test_ade20k(row):
    cfg = load(row['config'])
    assert cfg.default_scope == 'mmseg'
    assert plain(cfg.train_cfg) == {'type': 'IterBasedTrainLoop', 'max_iters': 160000, 'val_interval': 16000}
    assert (cfg.default_hooks.checkpoint.interval, cfg.default_hooks.checkpoint.by_epoch) == (16000, False)
    assert cfg.default_hooks.logger.log_metric_by_epoch is False
    assert cfg.default_hooks.visualization.type == 'SegVisualizationHook'
    assert cfg.visualizer.type == 'SegLocalVisualizer'
    assert cfg.log_processor.by_epoch is False
    assert cfg.train_dataloader.sampler.type == 'InfiniteSampler'
    preprocessor = cfg.model.data_preprocessor
    assert (preprocessor.type, preprocessor.pad_val, preprocessor.seg_pad_val) == ('SegDataPreProcessor', 0, 255)
    for dataset, split in ((cfg.train_dataloader.dataset, 'training'), (cfg.val_dataloader.dataset, 'validation')):
        assert (dataset.type, dataset.data_root) == ('ADE20KDataset', 'data/ade/ADEChallengeData2016/')
        assert plain(dataset.data_prefix) == {'img_path': f'images/{split}', 'seg_map_path': f'annotations/{split}'}
    assert plain(cfg.test_dataloader) == plain(cfg.val_dataloader)
    assert plain(cfg.val_evaluator) == plain(cfg.test_evaluator) == {'type': 'IoUMetric', 'iou_metrics': ['mIoU']}
    assert both_heads('num_classes')(cfg) == 150
    assert plain(cfg.tta_model) == {'type': 'SegTTAModel'}


@all_rows
def test_precision_and_constructor(row):
    cfg = load(row['config'])
    assert cfg.amp_dtype == ('float16' if row['amp'] else 'bfloat16')
    assert cfg.auto_scale_lr.enable is False
    assert cfg.optim_wrapper.constructor == 'convnext_mm.LayerDecayOptimWrapperConstructor'
    assert set(cfg.optim_wrapper.paramwise_cfg) == {'decay_rate', 'decay_type'}
    assert set(cfg.optim_wrapper) == {'type', 'constructor', 'optimizer', 'paramwise_cfg'}
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'


# The files.

@all_rows
def test_leaf_says_only_what_differs(row):
    path = ROOT / 'configs' / row['config']
    text = path.read_text()
    assert len(text.splitlines()) <= 20
    base, = (ast.literal_eval(node.value) for node in ast.parse(text).body
             if isinstance(node, ast.Assign) and node.targets[0].id == '_base_')
    assert base == ('./_base_640.py' if row.get('crop_size') == [640, 640] else './_base_.py')
    own = {key: value for key, value in runpy.run_path(str(path)).items() if not key.startswith('_')}
    assert set(own) <= {'model', 'optim_wrapper', 'amp_dtype'}
    inherited = Config.fromfile(path.parent / base)

    def restated(node, base, where):
        for key, value in node.items():
            if isinstance(value, dict) and isinstance(base.get(key), dict):
                yield from restated(value, base[key], f'{where}.{key}')
            elif key in base and plain(base[key]) == plain(value):
                yield f'{where}.{key}'.lstrip('.')

    assert list(restated(own, inherited, '')) == []


@all_rows
def test_no_helper_leaks(row):
    assert set(load(row['config'])) == COMMON_KEYS | (ADE20K_KEYS if row in ADE20K else set())


@pytest.mark.parametrize('config', ['configs/cascade/convnext_t_3x.py', ROOT / 'configs/cascade/convnext_t_3x.py',
                                    'cascade/convnext_t_3x.py'])
def test_recipe_of_a_config_path(config):
    assert recipe(config) is COCO[1]


@pytest.mark.parametrize('config', ['convnext_t_3x.py', 'cascade/_base_.py', 'my_cascade/convnext_t_3x.py'])
def test_no_recipe_for_other_configs(config):
    assert recipe(config) is None


# Learning rates: mmengine's schedulers, stepped as its hook steps them, against mmcv 1.x's formulas.

def linear_warmup(iteration, iterations, ratio):
    """mmcv 1.x, ``LrUpdaterHook`` with ``warmup='linear'``: factor on the regular rate."""
    return 1 - (1 - iteration / iterations) * (1 - ratio) if iteration < iterations else 1


def official_layer(name, row):
    """Layer of a parameter of the whole model, by ``layer_decay`` of ``paper.json``."""
    part, *numbers = re.match(r'(?:backbone\.)?(\w+)(?:\.(\d+))?(?:\.(\d+))?', name).groups()
    last = row['num_layers'] + 1
    if not name.startswith('backbone.') or part not in ('downsample_layers', 'stages'):
        return last
    stage, block = map(int, numbers)
    if row['decay_type'] == 'stage_wise':
        return stage + 1 if part == 'stages' else 0
    if part == 'downsample_layers':
        return (0, 2, 3, last - 1)[stage]
    return (1, 2, 3 + block // 3, last - 1)[stage]


class Training:
    """The optimizer groups and schedulers of a config, without the training."""

    def __init__(self, row):
        cfg, model = load(row['config']), build(row['config'])
        wrapper_cfg = dict(cfg.optim_wrapper, type='OptimWrapper')  # mmengine has mixed precision on GPUs alone
        groups = build_optim_wrapper(model, wrapper_cfg).optimizer.param_groups
        layers = {id(parameter): official_layer(name, row) for name, parameter in model.named_parameters()}
        self.layers = [same(*(layers[id(parameter)] for parameter in group['params'])) for group in groups]
        # One number stands for the parameters of a group.
        self.optimizer = torch.optim.SGD([dict(params=[torch.zeros(1)], lr=group['lr']) for group in groups])
        self.param_schedulers = [PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=self.optimizer))
                                 for scheduler in cfg.param_scheduler]
        # The official rate of each group, before any schedule.
        self.base = [row['lr'] * row['decay_rate'] ** (row['num_layers'] + 1 - layer) for layer in self.layers]

    def run(self, iterations):
        hook = ParamSchedulerHook()
        for _ in range(iterations):
            hook.after_train_iter(self, 0)

    def end_epoch(self):
        ParamSchedulerHook().after_train_epoch(self)

    def check(self, factor):
        rates = [group['lr'] for group in self.optimizer.param_groups]
        assert rates == pytest.approx([base * factor for base in self.base], rel=1e-9)


@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
class TestLearningRates:

    @all_rows
    def test_every_layer_has_its_group(self, row):
        last = row['num_layers'] + 1
        expected = range(last + 1) if row['decay_type'] == 'layer_wise' else (0, 1, 2, 3, 4, last)
        assert set(Training(row).layers) == set(expected)

    @coco_rows
    def test_coco(self, row):
        iterations, ratio = re.findall(r'[\d.]+', RECIPES['coco_train_pipeline']['warmup'])[:2]
        training, iteration = Training(row), 0
        for check in (0, 1, 250, 499, 500, 501, 750, 1500):
            training.run(check - iteration)
            iteration = check
            training.check(linear_warmup(iteration, int(iterations), float(ratio)))
        for epoch in range(row['max_epochs']):
            training.check(0.1 ** sum(epoch >= milestone for milestone in row['milestones']))
            training.run(2)
            training.end_epoch()

    @ade20k_rows
    def test_ade20k(self, row):
        assert row['schedule'] == 'poly, power 1.0, min_lr 0'
        training, iteration = Training(row), 0
        for check in (0, 1, 250, 750, 1499, 1500, 1501, 80000):
            training.run(check - iteration)
            iteration = check
            training.check((1 - check / row['max_iters']) * linear_warmup(
                check, row['warmup_iters'], row['warmup_ratio']))

    def test_the_published_check(self):
        """``paper.json``: a base rate of 1e-4 gives 9.906e-5 at iteration 1,500 and 5e-5 at 80,000."""
        base, *checks = re.findall(r'([\de.-]+) at (?:iteration )?([\d,]+)|base rate ([\de.-]+)',
                                   RECIPES['ade20k_schedule']['check'])
        training, iteration = Training(ADE20K[0]), 0
        assert float(base[2]) == training.base[-1]
        for rate, when, _ in checks:
            training.run(int(when.replace(',', '')) - iteration)
            iteration = int(when.replace(',', ''))
            assert f'{training.optimizer.param_groups[-1]["lr"]:.3e}' == f'{float(rate):.3e}'


# The models.

@all_rows
def test_parameters_are_as_many_as_published(row):
    assert round(sum(p.numel() for p in build(row['config']).parameters()) / 1e6) == row['params_m']


@all_rows
def test_model_fits_together(row):
    """One image goes from the backbone to the last layer of every head."""
    model = build(row['config'])
    with torch.device('meta'), torch.no_grad():
        features = model.backbone(torch.empty(1, 3, 128, 128))
        if row in ADE20K:
            assert model.decode_head(features).shape == (1, 150, 32, 32)
            assert model.auxiliary_head(features).shape == (1, 150, 8, 8)
            return
        features = model.neck(features)
        assert [f.shape[-1] for f in features] == [32, 16, 8, 4, 2]
        scores, boxes = model.rpn_head(features)
        assert (scores[0].shape[1], boxes[0].shape[1]) == (3, 12)
        heads = model.roi_head.bbox_head
        for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
            scores, boxes = head(torch.empty(2, 256, 7, 7))
            assert (scores.shape, boxes.shape) == ((2, 81), (2, 320))
        masks = model.roi_head.mask_head
        for head in masks if isinstance(masks, torch.nn.ModuleList) else [masks]:
            assert head(torch.empty(2, 256, 14, 14)).shape == (2, 80, 28, 28)


# The pipelines, on drawn images.


@pytest.fixture(scope='module')
def ade20k_sample(tmp_path_factory):
    """An image of 683 x 512 and its annotation, in which every class has its stripe."""
    cv2 = pytest.importorskip('cv2', reason='the toolboxes read images with OpenCV')
    folder, rng = tmp_path_factory.mktemp('ade20k'), np.random.default_rng(0)
    cv2.imwrite(str(folder / 'image.jpg'), rng.integers(0, 256, (512, 683, 3), dtype=np.uint8))
    cv2.imwrite(str(folder / 'labels.png'), (np.arange(683) % 151).astype(np.uint8)[None].repeat(512, 0))
    return dict(img_path=str(folder / 'image.jpg'), seg_map_path=str(folder / 'labels.png'), label_map=None,
                reduce_zero_label=True, seg_fields=[])  # what the dataset adds


def run_pipeline(pipeline, scope, sample):
    with DefaultScope.overwrite_default_scope(scope):
        return Compose(pipeline)(deepcopy(sample))


@pytest.mark.parametrize('row', [ADE20K[0], ADE20K[-1]], ids=['512', '640'])
def test_ade20k_pipelines(row, ade20k_sample):
    cfg, side = load(row['config']), row['crop_size'][0]
    np.random.seed(0)
    crops = [run_pipeline(cfg.train_dataloader.dataset.pipeline, 'mmseg', ade20k_sample)['inputs'].shape[1:]
             for _ in range(8)]
    assert np.max(crops) == side
    test = run_pipeline(cfg.test_dataloader.dataset.pipeline, 'mmseg', ade20k_sample)
    assert tuple(test['inputs'].shape) == (3, side, round(683 * side / 512))
    labels = test['data_samples'].gt_sem_seg.data
    assert (labels.max().item(), labels[0, 0, :2].tolist()) == (255, [255, 0])

    augmented = run_pipeline(cfg.tta_pipeline, 'mmseg', ade20k_sample)
    expected = [(int(ratio * side), flipped) for ratio in RECIPES['ade20k_multi_scale_test']['ratios']
                for flipped in (False, True)]
    assert [(image.shape[1], sample.metainfo['flip'])
            for image, sample in zip(augmented['inputs'], augmented['data_samples'])] == expected
    assert all(sample.gt_sem_seg.data.shape == (1, 512, 683) for sample in augmented['data_samples'])


@pytest.mark.parametrize('row', [COCO[0], COCO[-1]], ids=['mask_rcnn', 'cascade'])
def test_coco_pipelines(row, ade20k_sample):
    """One box with a mask on the image of 683 x 512."""
    cfg = load(row['config'])
    box = [100, 80, 500, 400]
    polygon = [100, 80, 500, 80, 500, 400, 100, 400]
    sample = dict(img_path=ade20k_sample['img_path'], img_id=0, height=512, width=683,
                  instances=[dict(bbox=box, bbox_label=3, mask=[polygon], ignore_flag=0)])
    short_sides = set()
    np.random.seed(0)
    for _ in range(30):
        train = run_pipeline(cfg.train_dataloader.dataset.pipeline, 'mmdet', sample)
        assert train['data_samples'].gt_instances.masks.masks.shape[1:] == train['inputs'].shape[1:]
        assert max(train['inputs'].shape[1:]) <= 1333
        short_sides.add(min(train['inputs'].shape[1:]))
    assert len(short_sides) > 5
    assert short_sides <= set(range(480, 801, 32))
    test = run_pipeline(cfg.test_dataloader.dataset.pipeline, 'mmdet', sample)
    assert tuple(test['inputs'].shape) == (3, 800, 1067)
