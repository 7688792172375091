"""Put a ConvNeXt in the place of other backbones, in any OpenMMLab config, with a reason for every change."""
import posixpath
from collections.abc import Mapping
from typing import NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log

from convnext_mm.checkpoint.download import resolve
from convnext_mm.models.arguments import OUTPUT_STRIDES, parse_arch, parse_output_stride
from convnext_mm.published.archs import NUM_STAGES
from convnext_mm.published.paper import published
from convnext_mm.published.weights import weights
from convnext_mm.swap.channels import set_channels
from convnext_mm.swap.consumers import find_reads
from convnext_mm.swap.edits import Change, Edits, dotted
from convnext_mm.swap.errors import NOT_A_MODEL, STRUCTURE, RefusedError
from convnext_mm.swap.imports import read_names, to_objects
from convnext_mm.swap.inputs import set_inputs
from convnext_mm.swap.optimizer import drop_path_rate, set_optimizer
from convnext_mm.swap.slots import find_slots
from convnext_mm.swap.sources import emitted
from convnext_mm.utils.arguments import check_flag
from convnext_mm.utils.configs import is_segmentor, type_name, walk
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError

#: Names of the argument of a backbone that says how many channels its images have.
INPUT_CHANNELS = ('in_channels', 'in_chans', 'in_channel', 'img_channels')


class Swap(NamedTuple):
    """A swapped config, the changes that made it, and what the user should know besides."""

    config: Config
    changes: list[Change]
    warnings: list[str]


def swap_backbone(cfg: Config, arch: str | Mapping = 'tiny', pretrained: str | None = 'auto', optimizer: bool = True,
                  output_stride: str | int = 'auto') -> Config:
    """Return a config with a ConvNeXt in place of every backbone that reads images.

    Channels and positions of everything that reads the backbone, input normalisation, optimizer and leftovers of the
    old backbone are put right. Teachers that have a checkpoint of their own stay. The schedule stays but for
    ``eta_min``, which is a rate: it stays the same part of the optimizer's. ``frozen_stages`` of 0 and 1 and
    ``norm_eval`` are not carried over: they belong to batch norm, and the paper fine-tunes all of a ConvNeXt.

    Args:
        cfg (mmengine.Config): A config of mmdet, mmseg, mmpretrain or a toolbox like them; it is not changed.
        arch (str | dict): As in :class:`convnext_mm.ConvNeXt`. Defaults to ``tiny``.
        pretrained (str | None): Short name, path or address of the weights; None for none; ``auto`` for those that the
            paper starts from, or below Tiny for ImageNet-1K's of ConvNeXt V2. Defaults to ``auto``.
        optimizer (bool): Whether to set AdamW with layer decay, see ``convnext_mm.swap.optimizer``. Defaults to True.
        output_stride (str | int): 8, 16 or 32; ``auto`` for that of the old backbone. Defaults to ``auto``.

    Returns:
        mmengine.Config: The swapped config.

    Raises:
        RefusedError: (a UserError) The model cannot have another backbone; the message says why.
        CheckpointError: (a UserError) No weights have the name ``pretrained``; the message lists similar names.
        ArgumentValueError, ArgumentTypeError: An argument is wrong; the message says what it takes.
    """
    result = swap(cfg, arch, pretrained, optimizer, output_stride)
    for warning in result.warnings:
        print_log(warning, logger='current', level=30)
    return result.config


def swap(cfg: Config, arch: str | Mapping = 'tiny', pretrained: str | None = 'auto', optimizer: bool = True,
         output_stride: str | int = 'auto') -> Swap:
    """Do the same as :func:`swap_backbone`, and return the changes and warnings beside the config."""
    if not isinstance(cfg, Config):
        raise ArgumentTypeError(f'cfg must be an mmengine.Config, got {cfg!r:.80}')
    check_flag('optimizer', optimizer)
    parse_arch(arch)
    if not isinstance(output_stride, str) or output_stride != 'auto':
        parse_output_stride(output_stride)
    weight = _choose_weights(arch, pretrained)
    edits = Edits(read_names(cfg))
    model = edits.get(('model',), None)
    if not isinstance(model, dict) or not model:
        raise RefusedError(NOT_A_MODEL, 'the config has no model: it is a part of configs, a schedule for instance')
    strides = [_swap_slot(edits, slot, arch, weight, output_stride) for slot in find_slots(edits)]
    if output_stride != 'auto' and not any(is_segmentor(node) for _, node in walk(model)):
        edits.warnings.append('strides that necks and heads declare stay: see that they fit '
                              f'output_stride={output_stride}')
    set_inputs(edits, max(strides))
    _drop_leftovers(edits)
    _warn(edits, weight)
    if optimizer:
        set_optimizer(edits, arch, weight)
    return Swap(Config(to_objects(edits.cfg), filename=cfg.filename), edits.changes, edits.warnings)


def _choose_weights(arch, pretrained):
    """Return the name, path or address that ``pretrained`` stands for, or None."""
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


def _swap_slot(edits, slot, arch, weight, output_stride):
    """Exchange one backbone, and return the stride of its coarsest map."""
    old, channels = edits.get(slot), parse_arch(arch).channels
    features = emitted(old, edits.get(('default_scope',), None) or 'mmengine')
    reads = find_reads(edits, slot, features)
    maps = sorted({i for read in reads for i in read.maps}, key=lambda i: features[i].level)
    levels = [features[i].level for i in maps]
    _check_levels([features[i] for i in maps], type_name(edits.get(reads[0].path)) or 'the head', type_name(old))
    set_channels(edits, reads, {i: channels[features[i].level] for i in maps},
                 {i: position for position, i in enumerate(maps)})
    if output_stride == 'auto':
        dilated = [features[i].stride for i in maps if features[i].stride < 4 * 2 ** features[i].level]
        output_stride = next((s for s in OUTPUT_STRIDES if dilated and max(dilated) <= s), OUTPUT_STRIDES[-1])
    rate = drop_path_rate(edits.cfg['model'], arch, weight)
    new = _make_backbone(old, arch, weight, levels, output_stride, rate)
    edits.set(slot, new, f'in place of {type_name(old)}')
    return min(4 * 2 ** levels[-1], output_stride)


def _check_levels(features, reader, backbone):
    """Raise a ``RefusedError`` unless a ConvNeXt has a stage for each of the features."""
    outside = [f'{feature.stride:g}' for feature in features if feature.level not in range(NUM_STAGES)]
    if outside:
        raise RefusedError(STRUCTURE, f'{reader} reads maps of stride {", ".join(outside)} from {backbone}; a ConvNeXt '
                                      'has strides 4, 8, 16 and 32')
    if len({feature.level for feature in features}) < len(features):
        raise RefusedError(STRUCTURE, f'{backbone} emits several maps of one stride; a ConvNeXt has one a stride')


def _make_backbone(old, arch, weight, levels, output_stride, rate):
    """Return the settings of a ConvNeXt that emits the stages ``levels``, with what carries over from the old one."""
    is_v2 = bool(weight) and 'convnextv2' in posixpath.basename(weight)
    new = dict(type='convnext_mm.ConvNeXt', arch=arch)
    channels = next((old[key] for key in INPUT_CHANNELS if isinstance(old.get(key), int)), 3)
    if channels != 3:
        new['in_channels'] = channels
    if levels != [*range(NUM_STAGES)]:
        new['out_indices'] = tuple(levels)
    if output_stride != OUTPUT_STRIDES[-1]:
        new['output_stride'] = output_stride
    new['drop_path_rate'] = rate
    new['layer_scale_init_value'] = 0. if is_v2 else 1.
    if is_v2:
        new['use_grn'] = True
    if old.get('frozen_stages', -1) > 1:
        new['frozen_stages'] = min(old['frozen_stages'], NUM_STAGES)
    if old.get('with_cp'):
        new['with_cp'] = True
    if weight:
        new['init_cfg'] = dict(type='Pretrained', checkpoint=weight)
    return new


def _warn(edits, weight):
    """Add warnings of what the changes do not show."""
    known = weights().get(weight)
    if known and known.licence != 'MIT':
        edits.warnings.append(f'the weights {weight} are under {known.licence}')
    if any('the teacher' in warning for warning in edits.warnings) and any(
            change.path[-1] in ('mean', 'std', 'bgr_to_rgb') for change in edits.changes):
        edits.warnings.append('the teacher gets images normalised for a ConvNeXt now: see that it was trained so')
    for change in edits.changes:
        if isinstance(change.new, dict) and change.new.get('in_channels', 3) != 3:
            edits.warnings.append(f"images of {change.new['in_channels']} channels keep the order they are read in, "
                                  'and the mean and deviation by which they are normalised')


def _drop_leftovers(edits):
    """Drop the weights of the old backbones, and those of whole models that hold them."""
    if edits.get(('load_from',), None):
        edits.warnings.append(f"load_from={edits.get(('load_from',))!r} is dropped: it holds the old backbone")
        edits.set(('load_from',), None, 'a checkpoint of the model with its old backbone')
    for slot in [change.path for change in edits.changes if change.is_backbone]:
        for owner in (slot[:end] for end in range(1, len(slot))):
            if edits.get((*owner, 'pretrained'), None):
                edits.set((*owner, 'pretrained'), None, 'weights of the old backbone')
            if 'Pretrained' in str(edits.get((*owner, 'init_cfg'), None)):
                edits.warnings.append(f'{dotted(owner)}.init_cfg is dropped: it holds the old backbone')
                edits.set((*owner, 'init_cfg'), None, 'weights of the old backbone')
