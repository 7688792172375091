"""The namings of ConvNeXt checkpoints: told apart by their keys, and rewritten from one into another.

``parse`` takes a state dict in any naming apart into a backbone in the official names, a classifier and the modules
beside them; ``compose`` writes those in another naming. Both are pure, dict to dict; tensors are reshaped where the
libraries differ, never copied or computed with.

Sources: `facebookresearch/ConvNeXt` and `ConvNeXt-V2` ``models/``, mmpretrain ``models/backbones/convnext.py``, timm
``models/convnext.py``, torchvision ``models/convnext.py``, transformers ``models/{convnext,convnextv2,dinov3_convnext,
upernet}/modeling_*.py``.
"""
import itertools
import re
from typing import NamedTuple

from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.utils.text import shorten


class Naming(NamedTuple):
    """How a library names the parts of a ConvNeXt; ``{i}`` is the stage, ``{n}``, ``{odd}`` and ``{even}`` are i + 1,
    2i + 1 and 2i, ``{j}`` is the block, ``{k}`` the layer of a stem or downsampling."""

    stem: tuple
    down: str
    block: str
    #: Depthwise convolution, norm, expansion, reduction, layer scale, GRN's gamma and beta; None: has none.
    parts: tuple
    #: Prefix of the backbone in a classification model, for V1 and V2; the head stands beside it.
    roots: tuple = ('', '')
    #: Norm after pooling, and linear layer, of a classification model.
    final_norm: str | None = None
    head: str | None = None
    #: Norm of an emitted stage.
    out_norm: str | None = None
    #: Shapes that differ from the official (C,) of layer scale and (1, 1, 1, 4C) of GRN.
    gamma_shape: tuple = (-1,)
    grn_shape: tuple = (1, 1, 1, -1)


NAMINGS = {
    'official': Naming(
        ('downsample_layers.0.0', 'downsample_layers.0.1'), 'downsample_layers.{i}.{k}', 'stages.{i}.{j}',
        ('dwconv', 'norm', 'pwconv1', 'pwconv2', 'gamma', 'grn.gamma', 'grn.beta'),
        final_norm='norm', head='head', out_norm='norm{i}'),
    'mmpretrain': Naming(
        ('downsample_layers.0.0', 'downsample_layers.0.1'), 'downsample_layers.{i}.{k}', 'stages.{i}.{j}',
        ('depthwise_conv', 'norm', 'pointwise_conv1', 'pointwise_conv2', 'gamma', 'grn.gamma', 'grn.beta'),
        roots=('backbone.', 'backbone.'), final_norm='norm3', head='head.fc', out_norm='norm{i}', grn_shape=(-1,)),
    'timm': Naming(
        ('stem.0', 'stem.1'), 'stages.{i}.downsample.{k}', 'stages.{i}.blocks.{j}',
        ('conv_dw', 'norm', 'mlp.fc1', 'mlp.fc2', 'gamma', 'mlp.grn.weight', 'mlp.grn.bias'),
        final_norm='head.norm', head='head.fc', grn_shape=(-1,)),
    'timm_features': Naming(
        ('stem_0', 'stem_1'), 'stages_{i}.downsample.{k}', 'stages_{i}.blocks.{j}',
        ('conv_dw', 'norm', 'mlp.fc1', 'mlp.fc2', 'gamma', 'mlp.grn.weight', 'mlp.grn.bias'), grn_shape=(-1,)),
    'torchvision': Naming(
        ('features.0.0', 'features.0.1'), 'features.{even}.{k}', 'features.{odd}.{j}',
        ('block.0', 'block.2', 'block.3', 'block.5', 'layer_scale', None, None),
        final_norm='classifier.0', head='classifier.2', gamma_shape=(-1, 1, 1)),
    'transformers': Naming(
        ('embeddings.patch_embeddings', 'embeddings.layernorm'), 'encoder.stages.{i}.downsampling_layer.{k}',
        'encoder.stages.{i}.layers.{j}',
        ('dwconv', 'layernorm', 'pwconv1', 'pwconv2', 'layer_scale_parameter', 'grn.weight', 'grn.bias'),
        roots=('convnext.', 'convnextv2.'), final_norm='layernorm', head='classifier',
        out_norm='hidden_states_norms.stage{n}'),
    'transformers_dinov3': Naming(
        ('stages.0.downsample_layers.0', 'stages.0.downsample_layers.1'), 'stages.{i}.downsample_layers.{k}',
        'stages.{i}.layers.{j}',
        ('depthwise_conv', 'layer_norm', 'pointwise_conv1', 'pointwise_conv2', 'gamma', None, None),
        final_norm='layer_norm'),
}
#: Where a whole model keeps its backbone, in mmdet, mmseg and transformers' UPerNet alike.
BACKBONE = 'backbone.'
#: Keys under which a file may hold its state dict, in the order of preference: the weights that were trained come
#: before their moving average, as the paper's detectors start from the former.
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'model_ema', 'state_dict_ema', 'teacher', 'module')
#: Prefixes that wrappers of a model leave in its keys.
_WRAPPER_PREFIX = re.compile(r'^(?:module\.|_orig_mod\.)+')
#: transformers' names of the heads of a UPerNet, and mmseg's.
_UPERNET = (('.batch_norm.', '.bn.'), ('_head.classifier.', '_head.conv_seg.'))
#: ConvNeXts of another build, by a part of a key, and why they are not taken.
_OTHERS = (
    (re.compile(r'^blocks\.0\.(dwconv|conv_dw)\.'), 'an isotropic ConvNeXt: one stage, no pyramid of features'),
    (re.compile(r'dwconv\.kernel$'), 'a ConvNeXt V2 in the middle of sparse pre-training: convert it with '
                                     'remap_checkpoint_keys of the official repository first'),
)


class Parsed(NamedTuple):
    """A state dict taken apart; tensors are the file's own, reshaped to the official shapes."""

    #: A key of ``NAMINGS``.
    format: str
    #: What stood before the backbone's names.
    prefix: str
    #: Official name -> tensor: stem, stages, downsampling, and output norms ``norm{i}``.
    backbone: dict
    #: ``norm.*`` and ``head.*`` of a classification model.
    classifier: dict
    #: What the naming does not know below ``prefix``, be it tensors or not.
    unknown: dict
    #: Other modules, such as the neck and heads of a detector, by their whole names, in those of mmdet and mmseg.
    others: dict

    @property
    def depths(self):
        """Blocks of the four stages."""
        return _depths(self.backbone, NAMINGS['official'], '')

    @property
    def channels(self):
        """Channels of the stages, 0 for one that is not there."""
        return tuple(self.backbone[f'stages.{i}.0.dwconv.weight'].shape[0] if depth else 0
                     for i, depth in enumerate(self.depths))

    @property
    def use_grn(self):
        """Whether this is a ConvNeXt V2."""
        return 'stages.0.0.grn.gamma' in self.backbone


def unwrap(content):
    """The state dict in what a file holds, and the key that it stood under (None for the file's own dict).

    Raises:
        CheckpointError: There is none.
    """
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, dict):
            return (inner, key) if _is_state_dict(inner) else (unwrap(inner)[0], key)
    if _is_state_dict(content):
        return content, None
    found = ', '.join(f'{key}: {type(value).__name__}' for key, value in list(content.items())[:8])
    raise CheckpointError(f'holds no state dict: expected named tensors, or one of {", ".join(WRAPPERS)}; '
                          f'found {found or "nothing"}')


def _is_state_dict(content):
    return any(hasattr(value, 'shape') for value in content.values()) and all(isinstance(key, str) for key in content)


def find(names, prefix=''):
    """Format and prefix of each ConvNeXt among ``names``, those of a state dict that start with ``prefix``."""
    names = [name for name in names if name.startswith(prefix)]
    found = []
    for format, naming in NAMINGS.items():
        anchor = f'{naming.block}.{naming.parts[0]}.weight'.format(**_indices(0), j=0)
        found += [(format, name[:-len(anchor)]) for name in names if f'.{name}'.endswith(f'.{anchor}')]
    return found


def with_mm_heads(state_dict):
    """A state dict without the prefixes that wrappers of a model leave, transformers' heads in mmseg's names."""
    state_dict = {_WRAPPER_PREFIX.sub('', name): tensor for name, tensor in state_dict.items()}
    if not any(found == ('transformers', BACKBONE) for found in find(state_dict)):
        return state_dict
    return {name if name.startswith(BACKBONE) else _rename(name, _UPERNET): tensor
            for name, tensor in state_dict.items()}


def parse(state_dict, prefix=None):
    """Take a state dict in any of the namings apart.

    Args:
        state_dict (dict): Names and tensors.
        prefix (str, optional): Only what is named so is looked at, as mmengine's ``init_cfg`` has it.

    Returns:
        Parsed: See there.

    Raises:
        CheckpointError: It holds no ConvNeXt, several, or nothing under the prefix.
    """
    entries = with_mm_heads(state_dict)
    state_dict = {name: value for name, value in entries.items() if hasattr(value, 'shape')}
    prefix = _WRAPPER_PREFIX.sub('', f'{prefix.rstrip(".")}.') if prefix else ''
    found = find(state_dict, prefix)
    if not found:
        raise CheckpointError(_no_convnext(state_dict, prefix))
    if len(found) > 1:
        raise CheckpointError(f'holds several ConvNeXts, under {", ".join(repr(root) for _, root in found)}: name one '
                              'by prefix=')
    (format, root), = found
    naming = NAMINGS[format]
    names = {root + library: official for official, library in _names(naming, _depths(state_dict, naming, root))}
    classifier_names = _classifier_names(naming, root)
    outside = [name for name in state_dict if not name.startswith(root) and name not in classifier_names]
    if outside or any(f'{root}norm{i}.weight' in state_dict for i in range(3)):
        # mmpretrain calls the norm after pooling norm3, as it does the output norm of the last stage.
        classifier_names = {library: official for library, official in classifier_names.items() if library not in names}

    backbone, classifier, unknown, others = {}, {}, {}, {}
    for name, tensor in state_dict.items():
        if name in classifier_names:
            classifier[classifier_names[name]] = tensor
        elif name in names:
            backbone[names[name]] = _reshape(names[name], tensor, NAMINGS['official'])
        elif name.startswith(root):
            unknown[name] = tensor
        else:
            others[name] = tensor
    for name, value in entries.items():
        if name not in state_dict:
            (unknown if name.startswith(root) else others)[name] = value
    return Parsed(format, root, backbone, classifier, unknown, others)


def compose(parsed, format):
    """Write what ``parse`` took apart in another naming, the heads of a whole model included.

    Args:
        parsed (Parsed): From ``parse``.
        format (str): A key of ``NAMINGS``.

    Returns:
        dict: A flat state dict.

    Raises:
        CheckpointError: The naming has no place for a tensor, or its reader could not tell the parts apart again.
    """
    naming = NAMINGS[format]
    upernet = any(name.startswith('decode_head.') for name in parsed.others)
    if parsed.others and (parsed.prefix != BACKBONE or format not in ('official', 'mmpretrain')
                          and not (format == 'transformers' and upernet)):
        modules = sorted({name.split('.')[0] for name in parsed.others})
        raise CheckpointError(f'holds {", ".join(modules)} beside the backbone, for which {format} has no place')
    if parsed.others:
        root = BACKBONE
    else:
        root = naming.roots[parsed.use_grn] if format == 'mmpretrain' or 'head.weight' in parsed.classifier else ''
    names = {official: root + library for official, library in _names(naming, parsed.depths)}
    names.update((official, library) for library, official in _classifier_names(naming, root).items())
    tensors = {**parsed.backbone, **parsed.classifier}
    homeless = [*(name for name in tensors if name not in names), *parsed.unknown,
                *(name for name, value in parsed.others.items() if not hasattr(value, 'shape'))]
    if homeless:
        raise CheckpointError(f'holds {len(homeless)} entries for which {format} has no place: {shorten(homeless, 10)}')
    result = {names[name]: _reshape(name, tensor, naming) for name, tensor in tensors.items()}
    renamed = [(mm, library) for library, mm in _UPERNET] if format == 'transformers' else ()
    result.update((_rename(name, renamed), tensor) for name, tensor in parsed.others.items())
    again = parse(result)
    if (again.format, set(again.backbone), set(again.classifier)) != (format, set(parsed.backbone),
                                                                      set(parsed.classifier)):
        raise CheckpointError(f'cannot be written as {format}, which would take its norm3 for the norm of a classifier')
    return result


def convert(state_dict, format):
    """A state dict in any of the namings, in another one; see ``parse`` and ``compose``."""
    return compose(parse(state_dict), format)


def describe_method(names):
    """The kind of a whole model by its names, in the words of ``paper.json`` where it is one of the paper's."""
    if any(name.startswith('roi_head.mask_head.') for name in names):
        cascade = any(name.startswith('roi_head.bbox_head.0.') for name in names)
        return 'Cascade Mask R-CNN' if cascade else 'Mask R-CNN'
    if any(name.startswith('decode_head.psp_modules.') for name in names):
        return 'UPerNet'
    modules = sorted({name.split('.')[0] for name in names if not name.startswith(BACKBONE)})
    return f'backbone beside {", ".join(modules)}' if modules else 'backbone'


def _indices(i):
    return dict(i=i, n=i + 1, odd=2 * i + 1, even=2 * i)


def _depths(names, naming, root):
    """Blocks of the four stages, counted by their depthwise convolutions."""
    depths = []
    for i in range(4):
        block = f'{root}{naming.block}.{naming.parts[0]}.weight'
        depths.append(next(j for j in itertools.count() if block.format(**_indices(i), j=j) not in names))
    return tuple(depths)


def _names(naming, depths):
    """Pairs of the official and the library's name of each tensor of a backbone, output norms included."""
    official = NAMINGS['official']
    for i, depth in enumerate(depths):
        if not depth:
            continue
        at = _indices(i)
        layers = []
        for k in range(2):
            layers.append((official.down, naming.down, k) if i else (official.stem[k], naming.stem[k], k))
        if naming.out_norm:
            layers.append((official.out_norm, naming.out_norm, 0))
        for mine, library, k in layers:
            for leaf in ('weight', 'bias'):
                yield f'{mine}.{leaf}'.format(**at, k=k), f'{library}.{leaf}'.format(**at, k=k)
        for j in range(depth):
            for part, (mine, library) in enumerate(zip(official.parts, naming.parts)):
                if library is None:
                    continue
                # The first four are layers, the others parameters themselves.
                for leaf in ('.weight', '.bias') if part < 4 else ('',):
                    yield (f'{official.block}.{mine}{leaf}'.format(**at, j=j),
                           f'{naming.block}.{library}{leaf}'.format(**at, j=j))


def _classifier_names(naming, root):
    """The library's names of a classification model's norm and head, and the official ones."""
    beside = next((root[:-len(prefix)] for prefix in naming.roots if prefix and root.endswith(prefix)), root)
    return {f'{library}.{leaf}': f'{official}.{leaf}' for leaf in ('weight', 'bias')
            for official, library in (('norm', naming.final_norm and root + naming.final_norm),
                                      ('head', naming.head and beside + naming.head)) if library}


def _reshape(name, tensor, naming):
    """``tensor``, officially called ``name``, in the shape that ``naming`` gives it."""
    if '.grn.' in name:
        return tensor.reshape(naming.grn_shape)
    if name.endswith('.gamma'):
        return tensor.reshape(naming.gamma_shape)
    if '.pwconv' in name and tensor.ndim == 4 and tuple(tensor.shape[2:]) == (1, 1):
        # timm and mmpretrain can build the linear layers as 1x1 convolutions.
        return tensor.flatten(1)
    return tensor


def _rename(name, pairs):
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def _no_convnext(names, prefix):
    for pattern, what in _OTHERS:
        if any(pattern.search(name) for name in names):
            return f'holds {what}'
    if prefix and not any(name.startswith(prefix) for name in names):
        tops = sorted({name.split('.')[0] for name in names})
        return f'holds nothing under prefix {prefix!r}; its names start with {shorten(tops, 10)}'
    return (f'holds no ConvNeXt in a known naming ({", ".join(NAMINGS)})'
            f'{f" under prefix {prefix!r}" if prefix else ""}; its first names are {shorten(names, 4)}')
