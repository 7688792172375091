"""Checkpoint files as wholes: convert one into another naming, tell what one is."""
import os
from collections import Counter
from pathlib import Path

from convnext_mm.checkpoint.download import locate
from convnext_mm.checkpoint.errors import CheckpointError, naming_file
from convnext_mm.checkpoint.files import kind_of, read, write
from convnext_mm.checkpoint.namings import ISOTROPIC
from convnext_mm.checkpoint.state_dicts import compose, describe_method, find_state_dict, parse
from convnext_mm.published.archs import arch_name, describe_arch
from convnext_mm.published.paper import published
from convnext_mm.published.weights import of_file
from convnext_mm.utils.files import check_place
from convnext_mm.utils.text import shorten

ENDINGS = ('.pth', '.pt', '.bin', '.safetensors')


def convert_file(source: str | Path, target: str, naming: str) -> str:
    """Write a checkpoint in another naming; return what was done in words.

    Args:
        source (str): A path, an address or a short name.
        target (str): A file of tensors only: ``.safetensors``, or torch's format for ``.pth``, ``.pt`` and ``.bin``.
        naming (str): A key of ``convnext_mm.checkpoint.namings.NAMINGS``.

    Raises:
        CheckpointError: The source is no ConvNeXt, the naming has no place for a part of it, or the target's ending
            is unknown.
        WriteError: The target cannot be written.
    """
    if not target.endswith(ENDINGS):
        raise CheckpointError(f'{target!r} must end in {", ".join(ENDINGS)}: the ending decides the format of the file')
    check_place('DST', target)
    content = read(locate(source))
    with naming_file(source):
        parsed = parse(find_state_dict(content)[0])
        result = compose(parsed, naming)
    write(result, target)
    return f'{source} ({parsed.naming} naming) -> {target} ({naming} naming): {len(result)} tensors'


def describe_file(source: str | Path) -> dict[str, str]:
    """Return what a checkpoint is: ``{property: text}``, to be shown line by line.

    Args:
        source (str): A path, an address or a short name.

    Raises:
        CheckpointError: It cannot be read, or is no ConvNeXt.
    """
    path = locate(source)
    content = read(path)
    with naming_file(source):
        state_dict, key = find_state_dict(content)
        parsed = parse(state_dict)
    known = of_file(path)
    if known and known.arch != arch_name(parsed):
        # A file of the user's own under that name.
        known = None
    method = _method(parsed)
    facts = {
        'file': f'{path} ({os.path.getsize(path) / 1e6:.1f} MB, {kind_of(path)}{f", under {key!r}" if key else ""})',
        'format': f'{parsed.naming} naming' + (f', backbone under {parsed.prefix!r}' if parsed.prefix else ''),
        'arch': f'ConvNeXt{" V2" if parsed.use_grn else ""} {describe_arch(parsed)}',
        'model': method,
        'classes': str(_classes(parsed) or 'none: no classification layer'),
        'resolution': ' x '.join(map(str, known.resolution)) if known else 'unknown',
        **_describe_tensors(parsed),
        'loads into': _target(parsed, method),
    }
    if known:
        accuracy = f', {known.accuracy}' if known.accuracy else ''
        facts['published as'] = f'{known.name}: {known.data}, licence {known.licence}{accuracy}'
    beside = [name for name, value in content.items() if key and name != key and value is not None]
    if beside:
        facts['also holds'] = shorten(beside, 10)
    if parsed.unknown:
        facts['not understood'] = shorten(parsed.unknown, 10)
    return facts


def _describe_tensors(parsed):
    """Return the size of a state dict, and the types of its tensors, in words."""
    tensors = [value for part in (parsed.backbone, parsed.classifier, parsed.unknown, parsed.others)
               for value in part.values() if hasattr(value, 'dtype')]
    own = sum(tensor.numel() for tensor in parsed.backbone.values())
    dtypes = Counter(str(tensor.dtype).removeprefix('torch.') for tensor in tensors)
    return {
        'parameters': f'{sum(tensor.numel() for tensor in tensors) / 1e6:.2f} million in {len(tensors)} tensors, '
                      f'{own / 1e6:.2f} million in the backbone',
        'dtype': ', '.join(dtype if len(dtypes) == 1 else f'{dtype} ({count} tensors)'
                           for dtype, count in dtypes.most_common()),
    }


def _method(parsed):
    return 'classifier' if 'head.weight' in parsed.classifier else describe_method(parsed.others)


def _classes(parsed):
    """Return the number of classes by the classification layer; None without one."""
    for name, tensor in {**parsed.classifier, **parsed.others}.items():
        if name == 'head.weight' or name.endswith('decode_head.conv_seg.weight'):
            return tensor.shape[0]
        if name.endswith('.fc_cls.weight'):
            # One row is the background's.
            return tensor.shape[0] - 1
    return None


def _target(parsed, method):
    """Return where the file can be loaded: the paper's configs, or a backbone's settings."""
    arch = arch_name(parsed)
    configs = [f'configs/{row["config"]}' for row in published()['coco'] + published()['ade20k']
               if row['method'] == method and row['arch'] == arch]
    if configs:
        return ', '.join(configs)
    if parsed.official is ISOTROPIC:
        return _isotropic_target(parsed, arch)
    # The file may lack the deepest stages; the backbone needs numbers for them, but does not build them.
    depths, channels = ([number or 1 for number in numbers] for numbers in (parsed.depths, parsed.channels))
    settings = [f'arch={arch or dict(depths=tuple(depths), channels=tuple(channels))!r}']
    if 0 in parsed.depths:
        stages = parsed.depths.index(0)
        settings.append(f'out_indices={tuple(i for i in range(stages) if f"norm{i}.weight" in parsed.backbone)}')
    stem = parsed.backbone.get('downsample_layers.0.0.weight')
    if stem is not None and stem.shape[1] != 3:
        settings.append(f'in_channels={stem.shape[1]}')
    if parsed.use_grn:
        settings.append('use_grn=True')
    if 'stages.0.0.gamma' not in parsed.backbone:
        settings.append('layer_scale_init_value=0')
    return f"dict(type='convnext_mm.ConvNeXt', {', '.join(settings)})"


def _isotropic_target(parsed, arch):
    """Return the settings of an isotropic backbone."""
    size = arch.removeprefix('isotropic_') if arch else dict(depth=parsed.depths[0], channels=parsed.channels[0])
    scale = ', layer_scale_init_value=1e-6' if 'blocks.0.gamma' in parsed.backbone else ''
    return f"dict(type='convnext_mm.IsotropicConvNeXt', arch={size!r}{scale})"
