"""The namings of ConvNeXt checkpoints: how each library calls a backbone's tensors, and how it shapes them.

``state_dicts`` takes state dicts apart by these tables and writes them in another naming.

Sources: `facebookresearch/ConvNeXt` and `ConvNeXt-V2` ``models/``, mmpretrain ``models/backbones/convnext.py``, timm
``models/convnext.py``, torchvision ``models/convnext.py``, transformers ``models/{convnext,convnextv2,dinov3_convnext,
upernet}/modeling_*.py``.
"""
import itertools
from collections.abc import Iterator
from typing import NamedTuple


class Naming(NamedTuple):
    """How a library names the parts of a ConvNeXt.

    In the names ``{i}`` is the stage, ``{n}``, ``{odd}`` and ``{even}`` are i + 1, 2i + 1 and 2i, ``{j}`` is the block,
    ``{k}`` the layer of a downsampling.
    """

    #: The layers of the stem: convolution, norm; of an isotropic model, the convolution alone.
    stem: tuple
    down: str
    block: str
    #: Of a block: depthwise convolution, norm, expansion, reduction, layer scale, GRN's gamma and beta; None: has none.
    parts: tuple
    #: Prefix of the backbone in a classification model, for V1 and V2; the head stands beside it.
    roots: tuple = ('', '')
    #: Norm after pooling, and linear layer, of a classification model.
    final_norm: str | None = None
    head: str | None = None
    #: Norm of an emitted stage; of an isotropic model, of an emitted block.
    out_norm: str | None = None
    #: Shapes that differ from the official (C,) of layer scale and (1, 1, 1, 4C) of GRN.
    gamma_shape: tuple = (-1,)
    grn_shape: tuple = (1, 1, 1, -1)
    stages: int = 4

    def anchor(self, stage: int, block: int) -> str:
        """Return the name of a block's depthwise weight, which every block has: a ConvNeXt is found by it."""
        return f'{self.block}.{self.parts[0]}.weight'.format(**_indices(stage), j=block)


#: Word for a naming, as users type it -> the naming.
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


#: The isotropic models of the official repository, which no other library has.
ISOTROPIC = Naming(('stem',), '', 'blocks.{j}', NAMINGS['official'].parts, final_norm='norm', head='head',
                   out_norm='norm{j}', stages=1)
#: The classifier of this project's own models, an ``ImageClassifier`` whose neck is a ``PooledLayerNorm``; the backbone
#: stands under ``backbone.``.
CLASSIFIER = {'norm': 'neck.norm', 'head': 'head.fc'}


def count_blocks(names: dict, naming: Naming, root: str) -> tuple[int, ...]:
    """Return the number of blocks of each of the stages, counted by their anchors below the prefix ``root``."""
    return tuple(next(j for j in itertools.count() if root + naming.anchor(i, j) not in names)
                 for i in range(naming.stages))


def pair_names(naming: Naming, depths: tuple) -> Iterator[tuple[str, str]]:
    """Yield the official and the library's name of each tensor of a backbone, output norms included."""
    official = NAMINGS['official'] if naming.stages > 1 else ISOTROPIC
    for i, depth in enumerate(depths):
        if not depth:
            continue
        at = _indices(i)
        layers = [(official.down, naming.down, dict(k=k)) for k in range(2)] if i else [
            (*layer, {}) for layer in zip(official.stem, naming.stem)]
        if official.out_norm and naming.out_norm:
            outputs = range(1 if naming.stages > 1 else depth)
            layers += [(official.out_norm, naming.out_norm, dict(j=j)) for j in outputs]
        for ours, theirs, place in layers:
            for leaf in ('weight', 'bias'):
                yield f'{ours}.{leaf}'.format(**at, **place), f'{theirs}.{leaf}'.format(**at, **place)
        for j in range(depth):
            for part, (ours, theirs) in enumerate(zip(official.parts, naming.parts)):
                if theirs is None:
                    continue
                # The first four are layers, the others parameters themselves.
                for leaf in ('.weight', '.bias') if part < 4 else ('',):
                    yield (f'{official.block}.{ours}{leaf}'.format(**at, j=j),
                           f'{naming.block}.{theirs}{leaf}'.format(**at, j=j))


def classifier_names(naming: Naming, root: str) -> dict[str, str]:
    """Return the names of a classification model's norm and head, the library's and this project's, and the official
    ones."""
    beside = next((root[:-len(prefix)] for prefix in naming.roots if prefix and root.endswith(prefix)), root)
    layers = {own: official for official, own in CLASSIFIER.items()} if root == 'backbone.' else {}
    layers.update((theirs, official) for official, theirs in (
        ('norm', naming.final_norm and root + naming.final_norm), ('head', naming.head and beside + naming.head))
        if theirs)
    return {f'{theirs}.{leaf}': f'{official}.{leaf}' for leaf in ('weight', 'bias')
            for theirs, official in layers.items()}


def reshape(name: str, tensor, naming: Naming):
    """Return ``tensor``, officially called ``name``, in the shape that a naming gives it."""
    if '.grn.' in name:
        return tensor.reshape(naming.grn_shape)
    if name.endswith('.gamma'):
        return tensor.reshape(naming.gamma_shape)
    if '.pwconv' in name and tensor.ndim == 4 and tuple(tensor.shape[2:]) == (1, 1):
        # timm and mmpretrain can build the linear layers as 1x1 convolutions.
        return tensor.flatten(1)
    return tensor


def _indices(i):
    return dict(i=i, n=i + 1, odd=2 * i + 1, even=2 * i)
