"""Small models with random weights in files, for tests of what is exported."""
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from convnext_mm.export.boxes import pad_to_divisor
from convnext_mm.export.check import CASES, images_of
from convnext_mm.export.detections import predict
from convnext_mm.export.images import normalise
from tests.helpers.models import randomise
from tests.helpers.paths import ROOT
from tests.helpers.small import shrink

_STRIDES = [4, 8, 16, 32, 64]
_NORM = dict(type='GN', num_groups=4)
_CODER = dict(type='DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[1.] * 4)
_ANCHORS = dict(type='AnchorGenerator', octave_base_scale=8, scales_per_octave=1, ratios=[1.], strides=_STRIDES)
#: Detectors of one stage: type, and its head's type and settings.
DENSE = {
    'RetinaNet': dict(type='RetinaHead', bbox_coder=_CODER, anchor_generator=dict(
        _ANCHORS, octave_base_scale=4, scales_per_octave=3, ratios=[.5, 1., 2.])),
    'FCOS': dict(type='FCOSHead', strides=_STRIDES, norm_on_bbox=True, norm_cfg=_NORM),
    'ATSS': dict(type='ATSSHead', bbox_coder=_CODER, norm_cfg=_NORM, anchor_generator=_ANCHORS),
}


def make_dense(cfg, kind, classes):
    """Make the config of a two-stage detector one of a detector of one stage, with its backbone and neck."""
    channels = cfg.model.neck.out_channels
    for key in ('rpn_head', 'roi_head', 'train_cfg'):
        cfg.model.pop(key)
    cfg.model.update(
        type=kind, bbox_head=dict(DENSE[kind], num_classes=classes, in_channels=channels, feat_channels=channels,
                                  stacked_convs=1),
        test_cfg=dict(nms_pre=200, min_bbox_size=0, score_thr=.05, nms=dict(type='nms', iou_threshold=.5),
                      max_per_img=50))


def randomise_whole(model):
    """Give every parameter and statistic a random value, large enough that predictions vary over an image."""
    randomise(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
        for name, buffer in model.named_buffers():
            if name.endswith('running_mean'):
                buffer.uniform_(-.1, .1, generator=generator)
            elif name.endswith('running_var'):
                buffer.uniform_(.5, 2, generator=generator)
    return model


def _layers(module, generator):
    """Draw and yield the layers of a detector's heads that predict, with their names."""
    for name, layer in module.named_modules():
        if name.endswith(('_cls', '_reg', 'conv_logits')) and hasattr(layer, 'weight'):
            layer.weight.normal_(0, 1, generator=generator)
            layer.bias.zero_()
            yield name, layer


def _spread(name, layer, outputs):
    """Scale and shift what a layer gives, ``outputs``, so that it varies."""
    values = torch.cat([output.transpose(0, 1).flatten(1) for output in outputs], 1)
    # Scores stay where sigmoid does not round different ones to the same one.
    spread = .2 if name.endswith('reg') else 3 if name.endswith(('fc_cls', 'conv_logits')) else 1
    scale = spread / values.std(1).mean()
    layer.weight.mul_(scale)
    layer.bias.copy_(-values.mean(1) * scale)


@torch.no_grad()
def spread_detections(model):
    """Have a detector's random heads find various classes in various places; all boxes look alike to such heads."""
    images, generator, preprocessor = images_of(CASES[0]), torch.Generator().manual_seed(2), model.data_preprocessor
    maps = model.extract_feat(pad_to_divisor(normalise(images, preprocessor), preprocessor))
    dense = model.rpn_head if hasattr(model, 'roi_head') else model.bbox_head
    for name, layer in _layers(dense, generator):
        seen = []
        hook = layer.register_forward_hook(lambda layer, inputs, output, seen=seen: seen.append(output))
        dense(maps)
        hook.remove()
        _spread(name, layer, seen)
    if hasattr(model, 'roi_head'):
        hooks = {}

        def spread(layer, inputs, output):
            """Spread a layer at its call, so that the next one gets what it then gives."""
            name, hook = hooks.pop(layer)
            hook.remove()
            _spread(name, layer, [output])
            return layer(*inputs)

        hooks.update({layer: (name, layer.register_forward_hook(spread))
                      for name, layer in _layers(model.roi_head, generator)})
        predict(model, images)
        assert not hooks
    return model


def build_random(cfg):
    """Return the model of a config with random weights that find various things in various places."""
    init_default_scope(cfg.default_scope)
    model = randomise_whole(revert_sync_batchnorm(MODELS.build(cfg.model))).eval()
    return spread_detections(model) if {'roi_head', 'bbox_head'} & set(cfg.model) else model


def write_model(folder, config, **options):
    """Write a config of the project, made small, and a checkpoint of its model; return both paths as text."""
    cfg = shrink(Config.fromfile(ROOT / config))
    cfg.merge_from_dict(options)
    cfg.dump(folder / 'config.py')
    torch.save(dict(state_dict=build_random(cfg).state_dict(), meta={}), folder / 'model.pth')
    return str(folder / 'config.py'), str(folder / 'model.pth')
