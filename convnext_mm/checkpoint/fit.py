"""Loading ConvNeXt checkpoints of any naming, verified: what fits is loaded, what may differ is named, else it raises.

Ways in, all of which end in ``fit_backbone``:
- ``load_pretrained``: a backbone's ``init_cfg=dict(type='Pretrained', ...)``.
- ``adapt_state_dict``: whatever loads a state dict into a module that contains the backbone, mmengine's and torch's own
  functions alike; the backbone calls it from ``_load_from_state_dict``.
- ``whole_model.fit_model``: a whole model, heads included; the runner's hook and ``mmengine_loader`` call it.
"""
import re

import torch
from mmengine.logging import print_log

from convnext_mm.checkpoint.download import locate
from convnext_mm.checkpoint.errors import CheckpointError, naming_file
from convnext_mm.checkpoint.files import read
from convnext_mm.checkpoint.namings import parse, unwrap
from convnext_mm.published.archs import LETTERS, describe_arch
from convnext_mm.utils.text import shorten

#: All that a file may hold without a backbone having a place for it: a classifier and the norm before it, the heads of
#: other builds (timm's ``norm_pre``, DINOv3's ``norms``, the decoder of V2's pre-training), and, by their number,
#: output norms and stages that the backbone does not build. Modules beside a backbone (neck, heads) come on top
#: where the backbone alone is loaded.
MAY_BE_LEFT_OVER = re.compile(r'(?:head|norm|norm_pre|norms|mask_token|proj|decoder|pred)(?:\.|$)')
_NUMBERED = re.compile(r'(?:norm|stages\.|downsample_layers\.)[0-3]\.')
#: All that a file may lack: the output norms, which start at identity. Only where the backbone alone is loaded.
MAY_BE_MISSING = re.compile(r'norm[0-3]\.(?:weight|bias)$')
#: Entry of a state dict's metadata by which ``fit_model`` tells, once, the model and the backbone that all is verified.
VERIFIED = 'convnext_mm_verified'


def load_pretrained(backbone, source, prefix=None):
    """Load a checkpoint into a backbone.

    Args:
        backbone (ConvNeXt): The backbone; tensors are copied into it one by one, from the pages of the file.
        source (str): A path, an address or a short name, such as ``convnext_tiny_in1k``.
        prefix (str, optional): Take only what is named so, such as ``backbone.``; found by itself without.

    Raises:
        CheckpointError: Naming the missing, unexpected and misshapen tensors, and the likely cause.
    """
    state_dict, _ = _read_state_dict(source)
    with naming_file(source):
        parsed = parse(state_dict, prefix)
        tensors, summary = fit_backbone(backbone, parsed)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            parameter.copy_(tensors[name])
    print_log(f'Loaded {source}: {summary}', logger='current')


def fit_backbone(backbone, parsed, prefix='', training=True):
    """The tensors of a backbone's parameters, by name, and a summary in words.

    Args:
        backbone (ConvNeXt): Says what is wanted.
        parsed (Parsed): What there is.
        prefix (str): Where the backbone stands in the model that is loaded; '' for a backbone alone. As a part of a
            whole model it needs its output norms. Defaults to ''.
        training (bool): A stem for three image channels may be adapted to another number. Defaults to True.

    Raises:
        CheckpointError: As ``load_pretrained``.
    """
    alone = not prefix
    own = dict(backbone.named_parameters())
    tensors, notes = dict(parsed.backbone), []
    stem = 'downsample_layers.0.0.weight'
    if training and stem in tensors and tensors[stem].shape[1] == 3 != backbone.in_channels:
        tensors[stem] = adapt_stem(tensors[stem], backbone.in_channels)
        how = 'the mean of 3' if backbone.in_channels < 3 else '3 repeated and rescaled'
        notes.append(f'stem adapted to in_channels={backbone.in_channels}: {how}')
    missing = [name for name in own if name not in tensors]
    identity = [name for name in missing if alone and MAY_BE_MISSING.match(name)]
    left_over = [name for name in tensors if name not in own]
    unexpected = [name for name in left_over if not _NUMBERED.match(name) or _is_built(backbone, name)]
    unknown = [name[len(parsed.prefix):] for name in parsed.unknown]
    unexpected += [name for name in unknown if not MAY_BE_LEFT_OVER.match(name)]
    misshapen = [(name, tuple(tensors[name].shape), tuple(own[name].shape)) for name in own
                 if name in tensors and tensors[name].shape != own[name].shape]
    raise_mismatch([prefix + name for name in missing if name not in identity],
                  [prefix + name for name in unexpected], [(prefix + name, *shapes) for name, *shapes in misshapen],
                  _cause(backbone, parsed, own))
    tensors = {name: tensors[name] if name in tensors else torch.full_like(parameter, name.endswith('weight'))
               for name, parameter in own.items()}
    count = len(own) - len(identity)
    left_over += [*parsed.classifier, *unknown, *parsed.others]
    if identity:
        notes.append(f'output norms {", ".join(sorted({name.split(".")[0] for name in identity}))} start at identity')
    if left_over and alone:
        notes.append(f'{len(left_over)} tensors left out, of {", ".join(sorted({n.split(".")[0] for n in left_over}))}')
    return tensors, '; '.join([f'{parsed.format} naming, {count} of {len(own)} tensors', *notes])


def adapt_stem(weight, in_channels):
    """The weight ``(C, 3, 4, 4)`` of a stem for another number of image channels.

    Fewer channels get the mean of the three; more repeat the three and are rescaled by 3 / ``in_channels``, so that
    images with equal channels give what they gave.

    Source: timm ``models/_manipulate.py``, ``adapt_input_conv``. Deviation: for fewer channels timm has the sum.
    """
    # Half precision is too coarse to compute in.
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    if in_channels < 3:
        return weight.mean(1, keepdim=True).repeat(1, in_channels, 1, 1)
    return weight.repeat(1, -(-in_channels // 3), 1, 1)[:, :in_channels] * (3 / in_channels)


def adapt_state_dict(backbone, state_dict, prefix, local_metadata):
    """Rewrite, in place, what ``state_dict`` holds for a backbone in any naming into the backbone's own names.

    A mismatch raises whatever the caller's ``strict`` is: modules are not told of it.

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
        # A part of a whole model is loaded strictly; where that is training, fit_model has been there before.
        tensors, summary = fit_backbone(backbone, parse(mine), prefix, training=not prefix)
    print_log(f'Loaded {file or "a state dict"}{f" into {prefix[:-1]}" if prefix else ""}: {summary}', logger='current')
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    state_dict.update((prefix + name, tensor) for name, tensor in tensors.items())


def _read_state_dict(source):
    content = read(locate(source))
    with naming_file(source):
        return unwrap(content)


def is_sharded(module):
    """Whether FSDP has taken the parameters over, so that names and shapes are no longer the module's own."""
    return any('_fsdp_wrapped_module' in name or '_flat_param' in name for name, _ in module.named_parameters())


def _is_built(backbone, name):
    """Whether the stage or output norm that an official name belongs to is a part of the backbone."""
    kind, stage = re.match(r'(norm|stages\.|downsample_layers\.)([0-3])', name).groups()
    return int(stage) in backbone.out_indices if kind == 'norm' else int(stage) < len(backbone.stages)


def raise_mismatch(missing, unexpected, misshapen, cause):
    problems = []
    if missing:
        problems.append(f'{len(missing)} missing: {shorten(missing, 10)}')
    if unexpected:
        problems.append(f'{len(unexpected)} unexpected: {shorten(unexpected, 10)}')
    if misshapen:
        names = [f'{name} is {there}, wanted {wanted}' for name, there, wanted in misshapen]
        problems.append(f'{len(misshapen)} of another shape: {shorten(names, 10)}')
    if problems:
        raise CheckpointError('; '.join([*([cause] if cause else []), *problems]))


def _cause(backbone, parsed, own):
    """Why a file does not fit a backbone, in words; None if it cannot be told."""
    stages = len(backbone.stages)
    there, wanted = ([arch.depths[:stages], arch.channels[:stages]] for arch in (parsed, backbone))
    if there != wanted:
        return (f'the checkpoint is ConvNeXt-{describe_arch(parsed, LETTERS)}, the config asks for '
                f'{describe_arch(backbone)}')
    grn, gamma = ([name in tensors for tensors in (parsed.backbone, own)]
                  for name in ('stages.0.0.grn.gamma', 'stages.0.0.gamma'))
    settings = []
    if grn[0] != grn[1]:
        settings.append(f'use_grn={grn[0]}')
    if gamma[0] != gamma[1]:
        settings.append(f'layer_scale_init_value={"1e-6" if gamma[0] else 0}')
    if settings:
        return (f'the checkpoint is a ConvNeXt {"V2" if grn[0] else "V1"} with{"" if gamma[0] else "out"} layer scale: '
                f'set {" and ".join(settings)}')
    stem = 'downsample_layers.0.0.weight'
    if stem in parsed.backbone and parsed.backbone[stem].shape[1] != backbone.in_channels:
        return (f'the checkpoint takes images of {parsed.backbone[stem].shape[1]} channels, the config asks for '
                f'in_channels={backbone.in_channels}')
    return None


def describe_lack(prefix):
    return (f'holds nothing named {prefix}*, where the model has its backbone; a checkpoint of a backbone alone goes '
            "into the backbone's init_cfg=dict(type='Pretrained', checkpoint=...)")
