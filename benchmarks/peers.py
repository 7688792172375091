"""ConvNeXt as this and other packages have it, on equal weights, and Swin: what the backbone is measured beside."""
import contextlib
import itertools
import sys
from typing import NamedTuple

import torch
import torch.nn as nn

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.checkpoint.state_dicts import convert, parse
from convnext_mm.models.packing import pack_weights
from convnext_mm.utils.errors import ArgumentValueError, UserError

#: Names that bars speak of.
OURS, OURS_PACKED = 'convnext_mm', 'convnext_mm packed'
OURS_CP, OURS_COMPILED = 'convnext_mm with_cp', 'convnext_mm compile'
MMPRETRAIN, TIMM_COMPILED, SWIN = 'mmpretrain', 'timm linear channels-last compile', 'Swin (mmdet)'
#: Largest difference of a feature or a gradient, as a share of the largest value. What sums in another order costs
#: float32 some 1e-6 a layer; bfloat16 keeps 8 bits.
TOLERANCES = {'float32': 1e-3, 'bfloat16': 1e-1}


class Contestant(NamedTuple):
    """A backbone that is measured.

    Attributes:
        name (str): Unique.
        model (nn.Module): Maps images to four maps, each behind its LayerNorm where ``equal``.
        channels_last (bool): The layout of its weights and of the images that it gets.
        equal (bool): Whether architecture and weights are ours, so that the outputs must be.
        tasks (tuple[str]): What it is measured in.
        compiled (bool): Whether torch.compile is at work.
    """

    name: str
    model: nn.Module
    channels_last: bool = False
    equal: bool = True
    tasks: tuple = ('inference', 'training')
    compiled: bool = False


class WithNorms(nn.Module):
    """A body with the output norms that it lacks; its four maps are contiguous, as mmpretrain's are."""

    def __init__(self, body, features, channels):
        super().__init__()
        self.body, self.features = body, features
        for i, number in enumerate(channels):
            self.add_module(f'norm{i}', nn.LayerNorm(number, eps=1e-6))

    def forward(self, x):
        return tuple(getattr(self, f'norm{i}')(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()
                     for i, y in enumerate(self.features(self.body, x)))


def randomise(model, seed=0):
    """Give all parameters random values: at the initial layer scale blocks do nothing, and any features agree."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, .02, generator=generator)
            else:
                parameter.uniform_(.2, .8, generator=generator).sub_(.5 if name.endswith('bias') else 0)
    return model


def official(tensors):
    """Return tensors by a model's own names, such as its gradients, under the official names and in official shapes."""
    parsed = parse(tensors)
    return {**parsed.backbone, **{name: tensor for name, tensor in parsed.others.items() if name.startswith('norm')}}


def _with_norms(body, features, naming, weights, channels):
    """Return the ``WithNorms`` of a body, with a backbone's weights."""
    model = WithNorms(body, features, channels)
    norms = {name: tensor for name, tensor in weights.items() if name.startswith('norm')}
    renamed = convert({name: tensor for name, tensor in weights.items() if name not in norms}, naming)
    # The linear layers may be convolutions of 1x1.
    shapes = {name: parameter.shape for name, parameter in body.named_parameters()}
    norms.update((f'body.{name}', tensor.reshape(shapes[name])) for name, tensor in renamed.items())
    model.load_state_dict(norms)
    return model


def _mmpretrain(arch, weights):
    import mmpretrain.models  # noqa: F401
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS
    # As mmdet's configs/convnext have it, but for the drop path.
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(type='ConvNeXt', arch=arch._asdict(), out_indices=[0, 1, 2, 3], drop_path_rate=0.,
                                  layer_scale_init_value=1., gap_before_final_norm=False))
    model.load_state_dict({name.removeprefix('backbone.'): tensor
                           for name, tensor in convert(weights, 'mmpretrain').items()})
    yield Contestant(MMPRETRAIN, model)


def _timm(arch, weights):
    from timm.models import ConvNeXt as Timm
    from timm.models._features import FeatureListNet

    def build(conv_mlp):
        body = FeatureListNet(Timm(depths=arch.depths, dims=arch.channels, num_classes=0, conv_mlp=conv_mlp),
                              out_indices=(0, 1, 2, 3), flatten_sequential=True)
        return _with_norms(body, lambda body, x: body(x), 'timm_features', weights, arch.channels)
    for conv_mlp, form in ((False, 'linear'), (True, 'conv')):
        yield Contestant(f'timm {form}', build(conv_mlp))
        yield Contestant(f'timm {form} channels-last', build(conv_mlp), channels_last=True)
    yield Contestant(TIMM_COMPILED, build(False), channels_last=True, tasks=('inference',), compiled=True)


def _torchvision(arch, weights):
    from torchvision.models.convnext import CNBlockConfig
    from torchvision.models.convnext import ConvNeXt as Torchvision
    following = [*arch.channels[1:], None]
    settings = [CNBlockConfig(*shape) for shape in zip(arch.channels, following, arch.depths)]
    body = nn.ModuleDict({'features': Torchvision(settings, num_classes=1).features})

    def features(body, x):
        for i, layer in enumerate(body['features']):
            x = layer(x)
            if i % 2:
                yield x
    yield Contestant('torchvision', _with_norms(body, features, 'torchvision', weights, arch.channels))


def _swin(arch, weights):
    from mmdet.models.backbones import SwinTransformer
    # Of the channels of a ConvNeXt, with which Swin-T and ConvNeXt-T were made to cost the same.
    first = arch.channels[0]
    heads = max(first // 32, 1)
    model = SwinTransformer(embed_dims=first, depths=(2, 2, 6, 2), num_heads=[heads * 2 ** i for i in range(4)],
                            drop_path_rate=0.)
    yield Contestant(SWIN, model, equal=False)


#: Package -> what it brings.
PEERS = {'mmpretrain': _mmpretrain, 'timm': _timm, 'torchvision': _torchvision, 'mmdet': _swin}


def _ours(name, device, compiled, missing):
    """Return this package's contestants, with ``compiled`` the compiled one too, or a note in ``missing``."""
    first = randomise(ConvNeXt(name, layer_scale_init_value=1.))

    def variant(**kwargs):
        model = ConvNeXt(name, layer_scale_init_value=1., **kwargs)
        model.load_state_dict(first.state_dict())
        return model
    contestants = [Contestant(OURS, first), Contestant(OURS_CP, variant(with_cp=True), tasks=('training',))]
    if device == 'cpu':
        # As the tools predict.
        contestants.append(Contestant(OURS_PACKED, variant(), tasks=('inference',)))
        pack_weights(contestants[-1].model)
    if compiled:
        try:
            contestants.append(Contestant(OURS_COMPILED, variant(compile=True), compiled=True))
        # An old torch cannot.
        except ArgumentValueError as error:
            missing[OURS_COMPILED] = str(error)
    return contestants


def build(name, device, compiled=()):
    """Build all contestants that the installed packages bring, on equal weights without drop path, ours first.

    Args:
        name (str): A key of ``convnext_mm.ARCHS``.
        device (str): ``cpu`` or ``cuda``.
        compiled (Container[str]): Names of the compiled ones that are among them. Defaults to none.

    Returns:
        tuple: A list of ``Contestant``, and ``{package or contestant: why it is missing}``.
    """
    missing = {}
    contestants = _ours(name, device, OURS_COMPILED in compiled, missing)
    weights = contestants[0].model.state_dict()
    for package, peers in PEERS.items():
        try:
            # Some packages greet on stdout when they are imported.
            with contextlib.redirect_stdout(sys.stderr):
                contestants += peers(ARCHS[name], weights)
        # Toolboxes assert each other's versions, and fail under others in ways of their own.
        except Exception as error:
            missing[package] = ' '.join(str(error).split()) or type(error).__name__
    contestants = [contestant for contestant in contestants if not contestant.compiled or contestant.name in compiled]
    for contestant in contestants:
        layout = torch.channels_last if contestant.channels_last else torch.preserve_format
        contestant.model.to(device, memory_format=layout)
        if contestant.name == TIMM_COMPILED:
            # For each size by itself, as is fastest.
            contestant.model.compile(dynamic=False)
    return contestants, missing


def difference(tensors, reference):
    """Return the largest difference of some tensors, as a share of the largest value of the one that it is in."""
    # torch's maximum is NaN where there is one; Python's need not be.
    return torch.stack([(a.float() - b.float()).abs().max() / b.float().abs().max().clamp(min=1e-12)
                        for a, b in zip(tensors, reference, strict=True)]).max().item()


def check_equal(name, what, tensors, reference, precision):
    """Make sure that a contestant computes what ours does, before it is timed.

    Returns:
        float: The difference.

    Raises:
        UserError: It does not: in number, shape, memory layout or value.
    """
    def form(tensors):
        return [(tuple(tensor.shape), tensor.is_contiguous()) for tensor in tensors]
    tensors, reference = list(tensors), list(reference)
    other = [pair for pair in itertools.zip_longest(form(tensors), form(reference)) if pair[0] != pair[1]]
    if other:
        raise UserError(f'{name}: {what} of another number, shape or memory layout than those of {OURS}: {other[0][0]} '
                        f'for {other[0][1]} (shape, contiguous)')
    found = difference(tensors, reference)
    if not found <= TOLERANCES[precision]:
        raise UserError(f'{name}: {what} in {precision} differ from those of {OURS} in float32 by {found:.1e} of the '
                        f'largest, {TOLERANCES[precision]:g} is taken: equal work cannot be compared')
    return found
