"""Put a ConvNeXt where another backbone was, in any OpenMMLab config: one call, and a reason for every change."""
import posixpath
from typing import NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log

from convnext_mm.checkpoint.download import resolve
from convnext_mm.models.arguments import OUTPUT_STRIDES, parse_arch, parse_output_stride
from convnext_mm.published.paper import published
from convnext_mm.published.weights import weights
from convnext_mm.swap.consumers import find_reads, set_channels
from convnext_mm.swap.edits import Edits, RefusedError
from convnext_mm.swap.inputs import set_inputs
from convnext_mm.swap.optimizer import drop_path_rate, set_optimizer
from convnext_mm.swap.sources import NO_IMAGE, PACKAGE, STRUCTURE, emitted
from convnext_mm.utils.configs import type_name, walk
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError

NOT_A_MODEL = 'no model in the config'


class Swap(NamedTuple):
    """A swapped config, the changes that made it, and what the user should know besides."""

    config: Config
    changes: list
    warnings: list


def swap_backbone(cfg, arch='tiny', pretrained='auto', optimizer=True, output_stride='auto'):
    """A config with a ConvNeXt in place of every backbone that reads images.

    Channels and positions of everything that reads the backbone, input normalisation, optimizer and leftovers of the
    old backbone are put right; teachers that come from a checkpoint of their own stay. The schedule stays but for
    ``eta_min``, which is a rate and keeps its part of the optimizer's. ``frozen_stages`` of 0 and 1 and ``norm_eval``
    are not carried over: they go with batch norm, and the paper fine-tunes the whole of a ConvNeXt.

    Args:
        cfg (mmengine.Config): A config of mmdet, mmseg or a toolbox like them; it is not changed.
        arch (str | dict): As in :class:`convnext_mm.ConvNeXt`. Defaults to ``tiny``.
        pretrained (str | None): Short name, path or address of the weights; ``auto`` for those that the paper starts
            from, or ImageNet-1K's of ConvNeXt V2 below Tiny; None for none. Defaults to ``auto``.
        optimizer (bool): Whether to set AdamW with layer decay, see ``convnext_mm.swap.optimizer``. Defaults to True.
        output_stride (str | int): 8, 16 or 32; ``auto`` for that of the old backbone. Defaults to ``auto``.

    Returns:
        mmengine.Config: The swapped config.

    Raises:
        RefusedError: (a UserError) The model cannot have another backbone; the message says why.
        CheckpointError: (a UserError) No weights have the name ``pretrained``; the message has those like it.
        ArgumentValueError, ArgumentTypeError: Naming the argument, what it got and what it takes.
    """
    result = swap(cfg, arch, pretrained, optimizer, output_stride)
    for warning in result.warnings:
        print_log(warning, logger='current', level=30)
    return result.config


def swap(cfg, arch='tiny', pretrained='auto', optimizer=True, output_stride='auto'):
    """As :func:`swap_backbone`, with the changes and warnings beside the config, as a :class:`Swap`."""
    if not isinstance(cfg, Config):
        raise ArgumentTypeError(f'cfg must be an mmengine.Config, got {cfg!r:.80}')
    if not isinstance(optimizer, bool):
        raise ArgumentTypeError(f'optimizer must be True or False, got {optimizer!r}')
    channels = parse_arch(arch).channels
    if output_stride != 'auto':
        parse_output_stride(output_stride)
    weight = _weights(arch, pretrained)
    edits = Edits(cfg.to_dict())
    model = edits.get(('model',), None)
    if not isinstance(model, dict) or not model:
        raise RefusedError(NOT_A_MODEL, 'the config has no model: it is a part of configs, a schedule for instance')
    scope = edits.get(('default_scope',), None) or 'mmengine'
    strides = [_swap_slot(edits, slot, scope, arch, channels, weight, output_stride) for slot in _find_slots(edits)]
    if output_stride != 'auto' and not any('decode_head' in node for _, node in walk(model)):
        edits.warnings.append('strides that necks and heads declare stay: see that they fit '
                              f'output_stride={output_stride}')
    set_inputs(edits, max(strides))
    _drop_leftovers(edits)
    _warn(edits, weight)
    if optimizer:
        set_optimizer(edits, arch, weight)
    return Swap(Config(edits.cfg, filename=cfg.filename), edits.changes, edits.warnings)


def _weights(arch, pretrained):
    """What ``pretrained`` stands for: a name, path or address, or None."""
    if pretrained is None or pretrained == 'auto' and not isinstance(arch, str):
        return None
    if not isinstance(pretrained, str):
        raise ArgumentTypeError('pretrained must be auto, a name, path or address of weights, or None, got '
                                f'{pretrained!r}')
    if pretrained == 'auto':
        urls = [row['backbone_weights'] for row in published()['coco'] + published()['ade20k'] if row['arch'] == arch]
        return next((w.name for url in urls for w in weights().values() if w.url == url), f'convnextv2_{arch}_in1k_ema')
    if not posixpath.splitext(pretrained)[1] and '/' not in pretrained:
        resolve(pretrained)  # Not a path, so it must be a name that is known.
    known = weights().get(pretrained)
    if known and known.arch != arch:
        raise ArgumentValueError(f'pretrained={pretrained!r} is of arch {known.arch!r}, and arch is {arch!r}: give '
                                 'both of one size')
    return pretrained


def _find_slots(edits):
    """Paths of the backbones that read images; those inside a backbone are its own business."""
    model, slots, refused = edits.get(('model',)), [], None

    def search(node, path):
        nonlocal refused
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(key, str) and key.endswith('backbone') and isinstance(value, dict) and value.get('type'):
                if key == 'rfp_backbone':
                    continue
                if key.startswith('teacher_') and node.get('teacher_ckpt'):
                    edits.warnings.append(f"{'.'.join(map(str, (*path, key)))} stays: the teacher has its weights from "
                                          f"{node['teacher_ckpt']}")
                elif key == 'pts_backbone':
                    refused = refused or RefusedError(NO_IMAGE, f'{type_name(value)} reads point clouds, not images')
                else:
                    slots.append((*path, key))
            elif key == 'teacher' and 'Pretrained' in str(value.get('init_cfg') if isinstance(value, dict) else ''):
                edits.warnings.append(f"{'.'.join((*map(str, path), key))} stays: the teacher has its weights from "
                                      f"{value['init_cfg'].get('checkpoint')}")
            elif isinstance(value, (dict, list, tuple)):
                search(value, (*path, key))

    search(model, ('model',))
    if model.get('teacher_config'):
        edits.warnings.append(f"the teacher stays: it is {model['teacher_config']} with its own checkpoint")
    if not slots and refused:
        raise refused
    if not slots and str(model.get('type', '')).endswith('Detectron2Wrapper'):
        raise RefusedError(PACKAGE, "the model is detectron2's, built from its own config by a package of its own")
    if not slots:
        raise RefusedError(NO_IMAGE, f'{type_name(model) or "the model"} has no backbone that reads images')
    return slots


def _swap_slot(edits, slot, scope, arch, channels, weight, output_stride):
    """Exchange one backbone; returns the stride of its coarsest map."""
    old = edits.get(slot)
    features = emitted(old, scope)
    reads = find_reads(edits, slot, features)
    maps = sorted({i for read in reads for i in read.positions}, key=lambda i: features[i].level)
    levels = [features[i].level for i in maps]
    outside = [features[i].stride for i in maps if features[i].level not in range(len(channels))]
    if outside:
        strides = ', '.join(f'{stride:g}' for stride in outside)
        reader = type_name(edits.get(reads[0].path)) or 'the head'
        raise RefusedError(STRUCTURE, f'{reader} reads maps of stride {strides} from {type_name(old)}; a ConvNeXt has '
                                      'strides 4, 8, 16 and 32')
    if len(set(levels)) < len(levels):
        raise RefusedError(STRUCTURE, f'{type_name(old)} emits several maps of one stride; a ConvNeXt has one a stride')
    set_channels(edits, reads, {i: channels[features[i].level] for i in maps},
                 {i: position for position, i in enumerate(maps)})
    if output_stride == 'auto':
        dilated = [features[i].stride for i in maps if features[i].stride < 4 * 2 ** features[i].level]
        output_stride = next((s for s in OUTPUT_STRIDES if dilated and max(dilated) <= s), OUTPUT_STRIDES[-1])
    new = _backbone(old, arch, weight, levels, output_stride, edits.cfg['model'])
    edits.set(slot, new, f'in place of {type_name(old)}')
    return min(4 * 2 ** levels[-1], output_stride)


def _backbone(old, arch, weight, levels, output_stride, model):
    is_v2 = bool(weight) and 'convnextv2' in posixpath.basename(weight)
    new = dict(type='convnext_mm.ConvNeXt', arch=arch)
    if old.get('in_channels', 3) != 3 and isinstance(old.get('in_channels'), int):
        new['in_channels'] = old['in_channels']
    if levels != [0, 1, 2, 3]:
        new['out_indices'] = tuple(levels)
    if output_stride != OUTPUT_STRIDES[-1]:
        new['output_stride'] = output_stride
    new['drop_path_rate'] = drop_path_rate(model, arch, weight)
    new['layer_scale_init_value'] = 0. if is_v2 else 1.
    if is_v2:
        new['use_grn'] = True
    if old.get('frozen_stages', -1) > 1:
        new['frozen_stages'] = min(old['frozen_stages'], 4)
    if old.get('with_cp'):
        new['with_cp'] = True
    if weight:
        new['init_cfg'] = dict(type='Pretrained', checkpoint=weight)
    return new


def _warn(edits, weight):
    """Say what the user cannot see from the changes."""
    known = weights().get(weight)
    if known and known.licence != 'MIT':
        edits.warnings.append(f'the weights {weight} are under {known.licence}')
    if any('the teacher' in warning for warning in edits.warnings) and any(
            change.path[-1] in ('mean', 'std', 'bgr_to_rgb') for change in edits.changes):
        edits.warnings.append('the teacher gets images normalised for a ConvNeXt now: see that it was trained so')
    for change in edits.changes:
        if isinstance(change.new, dict) and change.new.get('in_channels', 3) != 3:
            edits.warnings.append(f"images of {change.new['in_channels']} channels keep the order they are read in")


def _drop_leftovers(edits):
    """Weights of the old model: those of its backbone and those of the whole of it."""
    if edits.get(('load_from',), None):
        edits.warnings.append(f"load_from={edits.get(('load_from',))!r} is dropped: it holds the old backbone")
        edits.set(('load_from',), None, 'a checkpoint of the model with its old backbone')
    slots = {change.path for change in edits.changes if str(change.path[-1]).endswith('backbone')}
    for slot in slots:
        for end in range(1, len(slot)):
            owner = slot[:end]
            for key in ('pretrained', 'init_cfg'):
                value = edits.get((*owner, key), None)
                if not value or key == 'init_cfg' and 'Pretrained' not in str(value):
                    continue
                if key == 'init_cfg':
                    edits.warnings.append(f"{'.'.join(map(str, owner))}.init_cfg is dropped: it holds the old backbone")
                edits.set((*owner, key), None, 'weights of the old backbone')
