"""Load ConvNeXt checkpoints of any naming, verified: load what fits, name what may differ, raise for anything else.

There are three ways in, and all end in ``fit_backbone``:
- ``load_pretrained``: a backbone's ``init_cfg=dict(type='Pretrained', ...)``.
- ``adapt_state_dict``: any function, mmengine's or torch's own, that loads a state dict into a module with a backbone
  in it; the backbone calls it from ``_load_from_state_dict``.
- ``whole_model.fit_model``: a whole model, heads included; the runner's hook and ``mmengine_loader`` call it.
"""
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn as nn
from mmengine.logging import print_log

from convnext_mm.checkpoint.download import locate
from convnext_mm.checkpoint.errors import CheckpointError, naming_file
from convnext_mm.checkpoint.files import read
from convnext_mm.checkpoint.state_dicts import Parsed, find_state_dict, parse
from convnext_mm.published.archs import LETTERS, describe_arch
from convnext_mm.utils.text import shorten

#: All that a file may hold without a backbone having a place for it: a classifier and the norm before it, the heads of
#: other builds (timm's ``norm_pre``, DINOv3's ``norms``, the decoder of V2's pre-training), and, by their number,
#: output norms and stages that the backbone does not build. Where the backbone alone is loaded, the file may also hold
#: modules beside it (neck, heads).
MAY_BE_LEFT_OVER = re.compile(r'(?:head|norm|norm_pre|norms|mask_token|proj|decoder|pred)(?:\.|$)')
_NUMBERED = re.compile(r'(norm|stages\.|downsample_layers\.|blocks\.)(\d+)\.')
#: All that a file may lack: the output norms, which start at identity. Only where the backbone alone is loaded.
MAY_BE_MISSING = re.compile(r'norm\d+\.(?:weight|bias)$')
#: Entry of a state dict's metadata by which ``fit_model`` tells, once, the model and the backbone that all is verified.
VERIFIED = 'convnext_mm_verified'
_STEM = re.compile(r'(?:downsample_layers\.0\.0|stem)\.weight$')


class Differences(NamedTuple):
    """What keeps a state dict from fitting a module."""

    missing: list
    unexpected: list
    #: Name -> shape in the file and shape wanted.
    misshapen: dict

    def raise_any(self, cause: str | None, prefix: str = '') -> None:
        """Raise a ``CheckpointError`` if there are any, with the cause, if known, and the names after ``prefix``."""
        shapes = [f'{name} is {there}, wanted {wanted}' for name, (there, wanted) in self.misshapen.items()]
        kinds = ((self.missing, 'missing'), (self.unexpected, 'unexpected'), (shapes, 'of another shape'))
        problems = [f'{len(names)} {kind}: {shorten([prefix + name for name in names], 10)}'
                    for names, kind in kinds if names]
        if problems:
            raise CheckpointError('; '.join([*([cause] if cause else []), *problems]))


def compare(tensors: dict, own: dict) -> Differences:
    """Compare tensors with those, of the same names, that a module has."""
    misshapen = {name: (tuple(tensors[name].shape), tuple(tensor.shape)) for name, tensor in own.items()
                 if name in tensors and tensors[name].shape != tensor.shape}
    return Differences([name for name in own if name not in tensors], [name for name in tensors if name not in own],
                       misshapen)


def load_pretrained(backbone: nn.Module, source: str | Path, prefix: str | None = None) -> None:
    """Load a checkpoint into a backbone.

    Args:
        backbone (ConvNeXt): The backbone; tensors are copied into it one by one, from the pages of the file.
        source (str): A path, an address or a short name, such as ``convnext_tiny_in1k``.
        prefix (str, optional): Take only names that start so, such as ``backbone.``. Defaults to the one that the file
            has.

    Raises:
        CheckpointError: Naming the missing, unexpected and misshapen tensors, and the likely cause.
    """
    content = read(locate(source))
    with naming_file(source):
        state_dict, _ = find_state_dict(content)
        tensors, summary = fit_backbone(backbone, parse(state_dict, prefix))
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            parameter.copy_(tensors[name])
    print_log(f'Loaded {source}: {summary}', logger='current')


def fit_backbone(backbone: Any, parsed: Parsed, prefix: str = '', training: bool = True) -> tuple[dict, str]:
    """Return the tensors for a backbone's parameters, by name, and a summary in words.

    Args:
        backbone (ConvNeXt): Says what is wanted.
        parsed (Parsed): What there is.
        prefix (str): Where the backbone stands in the model that is loaded; '' for a backbone alone. As a part of a
            whole model it needs its output norms. Defaults to ''.
        training (bool): A stem for three image channels may be adapted to another number. Defaults to True.

    Raises:
        CheckpointError: As ``load_pretrained``.
    """
    own, there = dict(backbone.named_parameters()), dict(parsed.backbone)
    stem = _find_stem(there)
    adapted = training and stem in there and there[stem].shape[1] == 3 != backbone.in_channels
    if adapted:
        there[stem] = adapt_stem(there[stem], backbone.in_channels)
    identity, left_over = _check_backbone(backbone, parsed, compare(there, own), prefix)
    tensors = {name: torch.full_like(parameter, name.endswith('weight')) if name in identity else there[name]
               for name, parameter in own.items()}
    summary = [f'{parsed.naming} naming, {len(own) - len(identity)} of {len(own)} tensors']
    if adapted:
        how = 'the mean of 3' if backbone.in_channels < 3 else '3 repeated and rescaled'
        summary.append(f'stem adapted to in_channels={backbone.in_channels}: {how}')
    if identity:
        summary.append(f'output norms {_top_names(identity)} start at identity')
    if left_over and not prefix:
        summary.append(f'{len(left_over)} tensors left out, of {_top_names(left_over)}')
    return tensors, '; '.join(summary)


def _find_stem(names):
    """Return the name of the stem's weight; an empty text where there is none."""
    return next(filter(_STEM.match, names), '')


def _check_backbone(backbone, parsed, differences, prefix):
    """Raise unless a file fits a backbone; return the names of norms to start at identity, and of what is left over."""
    missing, unexpected, _ = differences
    identity = [name for name in missing if not prefix and MAY_BE_MISSING.match(name)]
    unknown = [name[len(parsed.prefix):] for name in parsed.unknown]
    wrong = differences._replace(
        missing=[name for name in missing if name not in identity],
        unexpected=[*(name for name in unexpected if not _NUMBERED.match(name) or _is_built(backbone, name, prefix)),
                    *(name for name in unknown if not MAY_BE_LEFT_OVER.match(name))])
    wrong.raise_any(_find_cause(backbone, parsed), prefix)
    return identity, [*unexpected, *parsed.classifier, *unknown, *parsed.others]


def _top_names(names):
    """Return the first parts of names, each once."""
    return ', '.join(sorted({name.split('.')[0] for name in names}))


def adapt_stem(weight: torch.Tensor, in_channels: int) -> torch.Tensor:
    """Return the weight of a stem for another number of image channels.

    Fewer channels get the mean of the three; more repeat the three and are rescaled by 3 / ``in_channels``, so that
    images with equal channels give what they gave.

    Args:
        weight (Tensor): Shape (C, 3, 4, 4).
        in_channels (int): The channels wanted.

    Source: timm ``models/_manipulate.py``, ``adapt_input_conv``. Deviation: for fewer channels timm has the sum.
    """
    # Half precision is too coarse to compute in.
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    if in_channels < 3:
        return weight.mean(1, keepdim=True).repeat(1, in_channels, 1, 1)
    return weight.repeat(1, -(-in_channels // 3), 1, 1)[:, :in_channels] * (3 / in_channels)


def adapt_state_dict(backbone: Any, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """Rewrite, in place, what ``state_dict`` holds for a backbone in any naming into the backbone's own names.

    A mismatch raises even where the caller has ``strict=False``, as torch does not tell modules of it.

    Args:
        backbone (ConvNeXt): The backbone that is about to load.
        state_dict (dict): Names start with ``prefix``.
        prefix (str): Where the backbone stands in the model that is loaded; '' for the backbone itself.
        local_metadata (dict): torch's metadata for the backbone.

    Raises:
        CheckpointError: As ``load_pretrained``.
    """
    if local_metadata.pop(VERIFIED, False) or is_sharded(backbone):
        return
    mine = {name[len(prefix):]: tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
    file = local_metadata.get('file')
    with naming_file(file):
        if not mine:
            raise CheckpointError(describe_lack(prefix))
        # A part of a whole model is loaded strictly. Where it is loaded to be trained, fit_model has adapted the stem.
        tensors, summary = fit_backbone(backbone, parse(mine), prefix, training=not prefix)
    print_log(f'Loaded {file or "a state dict"}{f" into {prefix[:-1]}" if prefix else ""}: {summary}', logger='current')
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    state_dict.update((prefix + name, tensor) for name, tensor in tensors.items())


def is_sharded(module: nn.Module) -> bool:
    """Return whether FSDP has taken the parameters over, so that names and shapes are no longer the module's own."""
    return any('_fsdp_wrapped_module' in name or '_flat_param' in name for name, _ in module.named_parameters())


def _is_built(backbone, name, prefix):
    """Return whether the stage, block or output norm that an official name belongs to is a part of the backbone.

    A norm of an output that a part of a whole model emits without one counts as well: the file's output is another one.
    """
    kind, number = _NUMBERED.match(name).groups()
    if kind == 'norm':
        return hasattr(backbone, f'norm{number}') or (bool(prefix) and int(number) in backbone.out_indices)
    return int(number) < len(getattr(backbone, kind.rstrip('.'), ()))


def _find_cause(backbone, parsed):
    """Return why a file does not fit a backbone, in words; None if it cannot be told."""
    isotropic = [len(arch.depths) == 1 for arch in (parsed, backbone)]
    if isotropic[0] != isotropic[1]:
        kinds = [('an isotropic ConvNeXt' if one else 'a ConvNeXt of four stages') for one in isotropic]
        return (f'the checkpoint is {kinds[0]}, the config asks for {kinds[1]}: set '
                f"type='convnext_mm.{'Isotropic' if isotropic[0] else ''}ConvNeXt'")
    stages = 1 if isotropic[0] else len(backbone.stages)
    there, wanted = ([arch.depths[:stages], arch.channels[:stages]] for arch in (parsed, backbone))
    if there != wanted:
        return (f'the checkpoint is ConvNeXt-{describe_arch(parsed, LETTERS)}, the config asks for '
                f'{describe_arch(backbone)}')
    first = 'blocks.0' if isotropic[0] else 'stages.0.0'
    grn, gamma = ([f'{first}.{name}' in tensors for tensors in (parsed.backbone, dict(backbone.named_parameters()))]
                  for name in ('grn.gamma', 'gamma'))
    settings = []
    if grn[0] != grn[1]:
        settings.append(f'use_grn={grn[0]}')
    if gamma[0] != gamma[1]:
        settings.append(f'layer_scale_init_value={"1e-6" if gamma[0] else 0}')
    if settings:
        return (f'the checkpoint is a ConvNeXt {"V2" if grn[0] else "V1"} with{"" if gamma[0] else "out"} layer scale: '
                f'set {" and ".join(settings)}')
    stem = parsed.backbone.get(_find_stem(parsed.backbone))
    if stem is not None and stem.shape[1] != backbone.in_channels:
        return (f'the checkpoint takes images of {stem.shape[1]} channels, the config asks for '
                f'in_channels={backbone.in_channels}')
    return None


def describe_lack(prefix: str) -> str:
    """Return what to say of a file without a tensor of the backbone that a model has under ``prefix``."""
    return (f'holds nothing named {prefix}*, where the model has its backbone; a checkpoint of a backbone alone goes '
            "into the backbone's init_cfg=dict(type='Pretrained', checkpoint=...)")
