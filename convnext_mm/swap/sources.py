"""Tell what other backbones emit, and which stage of a ConvNeXt stands in for each of their maps.

The rules follow the arguments of mmdet, mmseg, mmpretrain, mmpose and mmyolo, and need none of these toolboxes. A type
that no rule knows is built without memory and measured, where its toolbox is installed.
"""
import math
from typing import NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from convnext_mm.published.archs import ARCHS, NUM_STAGES
from convnext_mm.published.roadmap import STEPS, design_of
from convnext_mm.swap.edits import plain
from convnext_mm.swap.errors import NO_IMAGE, OWN, PACKAGE, STRUCTURE, RefusedError
from convnext_mm.swap.imports import to_objects
from convnext_mm.utils.configs import type_name


class Feature(NamedTuple):
    """One map that a backbone emits."""

    #: Stage of a ConvNeXt in its place: 0 to 3, or a number beyond them where a ConvNeXt has none.
    level: int
    #: Pixels of the image per pixel of the map.
    stride: float
    #: None where the config does not tell, only what reads the map.
    channels: int | None


_OWN = 'is a whole network whose branches the heads read, with no backbone in it to exchange'
_POINTS = 'reads point clouds or voxels, not images'
#: Type -> (kind, reason) of what cannot be exchanged.
REFUSED = {
    **dict.fromkeys(('BiSeNetV1', 'BiSeNetV2', 'ICNet', 'STDCNet', 'STDCContextPathNet', 'CGNet', 'DDRNet', 'PIDNet',
                     'ERFNet', 'FastSCNN'), (OWN, _OWN)),
    'UNet': (OWN, 'decodes back to stride 1 by itself, and the heads read that; a ConvNeXt starts at stride 4'),
    'VPD': (OWN, 'is a text-to-image diffusion model, which the head reads through its cross attention'),
    **dict.fromkeys(('SECOND', 'PointNet2SASSG', 'PointNet2SAMSG', 'DGCNNBackbone', 'MinkResNet', 'MinkUNetBackbone',
                     'SPVCNNBackbone', 'Asymm3DSpconv', 'MultiBackbone', 'NoStemRegNet'), (NO_IMAGE, _POINTS)),
    'HourglassNet': (STRUCTURE, 'emits a map of stride 4 after each of its stacks, and the heads supervise each'),
    'TridentResNet': (STRUCTURE, 'runs three branches of one stage, which the RoI head expects'),
    'ReResNet': (STRUCTURE, 'emits rotation-equivariant maps, which the neck takes apart by orientation'),
    'DLANet': (STRUCTURE, 'emits maps of stride 1 and 2, which the neck aggregates; a ConvNeXt starts at stride 4'),
    **dict.fromkeys(('STGCN', 'DSTFormer', 'TCN'), (NO_IMAGE, 'does not read images')),
}
#: Scopes whose backbones emit their last map alone unless told otherwise.
_LAST_ALONE = ('mmpretrain', 'mmcls', 'mmpose')


def _level(stride):
    """Return the stage of a ConvNeXt with a stride; 0 has 4."""
    return round(math.log2(stride)) - 2


def _divisible(value, divisor=8):
    """Round scaled channels as mmcv does."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < .9 * value else rounded


def _select(table, indices):
    """Return the features at ``out_indices``; negative ones count from the end."""
    indices = (indices,) if isinstance(indices, int) else indices
    return tuple(table[i % len(table)] for i in indices)


def _stages(channels, strides=(4, 8, 16, 32)):
    """Return one feature for each stage, the first in place of stage 0."""
    return [Feature(i, stride, c) for i, (stride, c) in enumerate(zip(strides, channels))]


def _resnet(cfg, scope):
    kind, depth = type_name(cfg), cfg.get('depth')
    strides, stride, reached = cfg.get('strides', (1, 2, 2, 2)), 4, []
    if kind == 'RegNet':
        strides = (1, *strides[1:])
    for factor in strides:
        stride *= factor
        reached.append(stride)
    width = cfg.get('base_channels', 64) * (1 if depth in (18, 34) else 4)
    known = kind != 'RegNet' and isinstance(depth, int)
    channels = [width * 2 ** i if known else None for i in range(len(reached))]
    return _select(_stages(channels, reached), cfg.get('out_indices', (3,) if scope in _LAST_ALONE else range(4)))


def _swin(cfg, scope):
    depths = cfg.get('depths', (2, 2, 6, 2))
    channels = [cfg['embed_dims'] * 2 ** i if 'embed_dims' in cfg else None for i in range(len(depths))]
    stages = _stages(channels, [4 * 2 ** i for i in range(len(depths))])
    return _select(stages, cfg.get('out_indices', (3,) if scope in _LAST_ALONE else range(len(stages))))


def _heads_times_width(heads):
    """Return a rule for transformers that are ``embed_dims`` wide for each head; ``heads`` are the default."""
    def family(cfg, scope):
        width = cfg.get('embed_dims', 64)
        return _select(_stages([width * n for n in cfg.get('num_heads', heads)]), cfg.get('out_indices', range(4)))
    return family


def _widths(cfg, scope):
    return _select(_stages(cfg.get('embed_dims', (None,) * 4)), cfg.get('out_indices', range(4)))


def _hrnet(cfg, scope):
    last = (cfg.get('extra') or {}).get('stage4', {})
    if not last.get('multiscale_output', scope != 'mmpose'):
        raise RefusedError(STRUCTURE, 'HRNet emits one map of stride 4 that has been through all of its depth; a '
                                      'ConvNeXt has been through its first stage there')
    return tuple(_stages([*last.get('num_channels', (None,) * 4)]))


def _csp(channels):
    """Return a rule for CSP networks with these ``channels`` (by ``arch``) before ``widen_factor``."""
    def family(cfg, scope):
        table = channels.get(cfg.get('arch', 'P5'), (None,) * 6)
        widen = cfg.get('widen_factor', 1)
        features = [Feature(i - 1, 2 ** (i + 1), c and int(c * widen)) for i, c in enumerate(table)]
        return _select(features, cfg.get('out_indices', (2, 3, 4)))
    return family


def _darknet(cfg, scope):
    return _select([Feature(i - 2, 2 ** i, 32 * 2 ** i) for i in range(6)], cfg.get('out_indices', (3, 4, 5)))


def _mobilenet_v2(cfg, scope):
    widen, usual_strides = cfg.get('widen_factor', 1.), (1, 2, 2, 2, 1, 2, 1)
    # Dilated networks have lower strides than usual; the usual one tells which stage a map is of.
    stride, nominal, table = 2, 2, []
    for width, actual, usual in zip((16, 24, 32, 64, 96, 160, 320), cfg.get('strides', usual_strides), usual_strides):
        stride, nominal = stride * actual, nominal * usual
        table.append(Feature(_level(nominal), stride, _divisible(width * widen)))
    table.append(Feature(_level(nominal), stride, int(1280 * max(widen, 1.))))
    usual = (7,) if scope in _LAST_ALONE else (1, 2, 4, 7 if scope == 'mmdet' else 6)
    return _select(table, cfg.get('out_indices', usual))


def _mobilenet_v3(cfg, scope):
    raise RefusedError(STRUCTURE, 'the head reads the stem of MobileNetV3 at stride 2; a ConvNeXt starts at stride 4')


def _efficientnet(cfg, scope):
    return _select([Feature(_level(s), s, None) for s in (2, 2, 4, 8, 16, 32, 32)], cfg.get('out_indices', (6,)))


def _vit(cfg, scope):
    indices, width = cfg.get('out_indices', -1), cfg.get('embed_dims')
    count = 1 if isinstance(indices, int) else len(indices)
    if count == 1:
        patch = cfg.get('patch_size', 16)
        return (Feature(NUM_STAGES - 1, patch[0] if isinstance(patch, (list, tuple)) else patch, width),)
    if count != NUM_STAGES:
        raise RefusedError(STRUCTURE, f'{type_name(cfg)} emits {count} maps of one stride; a ConvNeXt has one a stride')
    # Four maps of one stride are made a pyramid behind the backbone; a ConvNeXt has the pyramid itself.
    return tuple(_stages([width] * NUM_STAGES))


def _convnext(cfg, scope):
    arch = cfg.get('arch', 'tiny')
    channels = arch['channels'] if isinstance(arch, dict) else ARCHS[arch].channels if arch in ARCHS else (None,) * 4
    default = (3,) if scope in _LAST_ALONE else range(4)
    return _select(_stages(channels), cfg.get('out_indices', default))


def _modernized_resnet(cfg, scope):
    design = design_of(cfg.get('regime', 'resnet50'), cfg.get('step', STEPS[-1].name))
    design = design._replace(width=design.width // cfg.get('width_divisor', 1))
    return _select(_stages(design.channels), cfg.get('out_indices', range(NUM_STAGES)))


def _poolformer(cfg, scope):
    return _select([Feature(i // 2, 4 * 2 ** (i // 2), None) for i in range(7)], cfg.get('out_indices', -1))


def _ssd_vgg(cfg, scope):
    return (Feature(1, 8, 512), Feature(2, 16, 1024))


_CSP = {'P5': (64, 128, 256, 512, 1024), 'P6': (64, 128, 256, 512, 768, 1024)}
#: Type -> rule: a function of the backbone's config and scope that returns its features.
FAMILIES = {
    **dict.fromkeys(('ResNet', 'ResNetV1b', 'ResNetV1c', 'ResNetV1d', 'ResNeXt', 'ResNeSt', 'Res2Net', 'RegNet',
                     'SEResNet', 'SEResNeXt', 'DetectoRS_ResNet', 'DetectoRS_ResNeXt'), _resnet),
    'SwinTransformer': _swin,
    'PyramidVisionTransformer': _heads_times_width((1, 2, 5, 8)),
    'PyramidVisionTransformerV2': _heads_times_width((1, 2, 5, 8)),
    'MixVisionTransformer': _heads_times_width((1, 2, 4, 8)),
    'PCPVT': _widths, 'SVT': _widths, 'MSCAN': _widths,
    'HRNet': _hrnet,
    'CSPDarknet': _csp(_CSP), 'CSPNeXt': _csp(_CSP),
    **dict.fromkeys(('YOLOv5CSPDarknet', 'YOLOXCSPDarknet', 'YOLOv6EfficientRep', 'YOLOv6CSPBep', 'YOLOv7Backbone',
                     'YOLOv8CSPDarknet', 'PPYOLOECSPResNet'), _csp({})),
    'Darknet': _darknet,
    'MobileNetV2': _mobilenet_v2, 'MobileNetV3': _mobilenet_v3, 'EfficientNet': _efficientnet,
    'VisionTransformer': _vit, 'BEiT': _vit, 'MAE': _vit,
    'ConvNeXt': _convnext, 'ModernizedResNet': _modernized_resnet, 'PoolFormer': _poolformer, 'SSDVGG': _ssd_vgg,
}


def emitted(cfg, scope):
    """Return what a backbone emits.

    Args:
        cfg (dict): Its config.
        scope (str): Default scope of the whole config; a scope in the type comes first.

    Returns:
        tuple[Feature]: In the order in which the backbone emits them.

    Raises:
        RefusedError: It cannot be exchanged, or is not known.
    """
    kind, name = type_name(cfg), str(cfg.get('type'))
    if kind in REFUSED:
        refused, reason = REFUSED[kind]
        raise RefusedError(refused, f'{kind} {reason}')
    scope = name.split('.')[0] if '.' in name else cfg.get('_scope_', scope)
    if kind in FAMILIES:
        return FAMILIES[kind](cfg, scope)
    return measure_features(cfg, scope)


def measure_features(cfg, scope):
    """Run a backbone of an installed toolbox on an image of 256 x 256, and return what it emits.

    Raises:
        RefusedError: The type does not exist or cannot be built, or it emits other than maps of rising strides.
    """
    name, size = cfg.get('type'), 256
    cfg = {**cfg, **{key: False if cfg[key] is True else None for key in ('init_cfg', 'pretrained') if key in cfg}}
    cfg = plain(ConfigDict(to_objects(cfg)))
    try:
        maps = _run_backbone(cfg, scope, size)
        features = tuple(Feature(_level(size / m.shape[-1]), size / m.shape[-1], m.shape[1]) for m in maps)
    except Exception as error:  # A foreign backbone may raise anything.
        missing = isinstance(error, KeyError) and 'registry' in str(error) or isinstance(error, ImportError)
        raise RefusedError(PACKAGE if missing else STRUCTURE,
                           f'what the backbone {name} emits is not known here: {type(error).__name__}: '
                           f'{" ".join(str(error).split())[:200]}') from error
    if any(a.stride >= b.stride for a, b in zip(features, features[1:])):
        raise RefusedError(STRUCTURE, f'the backbone {name} emits maps of strides '
                                      f'{[f.stride for f in features]}; a ConvNeXt has one a stride')
    return features


def _run_backbone(cfg, scope, size):
    """Return the maps of a backbone, without memory where its construction needs no values."""
    for device in ('meta', 'cpu'):
        try:
            with MODELS.switch_scope_and_registry(scope) as registry, torch.device(device), torch.no_grad():
                backbone = registry.build(cfg)
                backbone.eval()  # It returns None in many toolboxes.
                return backbone(torch.zeros(1, cfg.get('in_channels', 3), size, size))
        except (RuntimeError, NotImplementedError):
            if device == 'cpu':
                raise
    return None
