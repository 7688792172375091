"""The networks between ResNet and ConvNeXt: what each step does, and both ends against the libraries that have them."""
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from convnext_mm import ConvNeXt, ModernizedResNet
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor
from convnext_mm.models.roadmap_block import Pointwise
from convnext_mm.published import roadmap
from convnext_mm.published.archs import ARCHS
from convnext_mm.published.roadmap import ENDS, REGIMES, STEPS, Both, design_of, find_step
from tests.helpers.models import randomise, relative_difference
from tests.helpers.paths import ROOT

NAMES = [step.name for step in STEPS]
LAST = len(STEPS) - 1


def small(step, **settings):
    """The regime of ResNet-50 in an eighth of its width."""
    return ModernizedResNet('resnet50', step, **dict(dict(width_divisor=8), **settings))


def randomised(model):
    """Random parameters and random statistics of batch norms, in eval mode."""
    randomise(model)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(.5, 1.5, generator=generator)
            if name.endswith('mean'):
                buffer.sub_(1)
    return model.eval()


def unset(build, *arguments, **settings):
    """A model without values, which takes no time to make."""
    with torch.device('meta'):
        return build(*arguments, **settings)


# What each step does: the layers as they run.

def describe(layer):
    """A layer in a word, with the channels that it reads and emits."""
    if isinstance(layer, Pointwise):
        return f'1x1 {layer.in_features}>{layer.out_features}'
    if isinstance(layer, nn.Conv2d):
        kind = 'd' if layer.groups == layer.in_channels > 1 else ''
        stride = '' if layer.stride[0] == 1 else f'/{layer.stride[0]}'
        return f'{kind}{"x".join(map(str, layer.kernel_size))}{stride} {layer.in_channels}>{layer.out_channels}'
    names = dict(BatchNorm2d='BN', LayerNorm2d='LN', MaxPool2d='pool/2')
    return names.get(type(layer).__name__, type(layer).__name__)


def layers_that_run(model):
    """The layers of the stem, of what is before the second stage, and of that stage's first two blocks, as called."""
    called = {part: [] for part in ('stem', 'before', 'block', 'next')}
    places = dict(stem=model.downsample_layers[0], before=model.downsample_layers[1], block=model.stages[1][0],
                  next=model.stages[1][1])
    for part, place in places.items():
        for module in place.modules():
            if not list(module.children()) and type(module).__name__ not in ('Identity', 'DropPath'):
                module.register_forward_hook(lambda layer, *_, part=part: called[part].append(describe(layer)))
    model.eval()(torch.rand(1, 3, 64, 64))
    return {part: ', '.join(names) for part, names in called.items()}


def anatomy(model):
    """All that a step may change, as text."""
    block = model.stages[1][0]
    weight = model.stages[2][1].pwconv1.weight
    kaiming = (2 / len(weight)) ** .5
    return dict(
        layers_that_run(model), depths=tuple(map(len, model.stages)),
        weights=min(dict(normal=.02, kaiming=kaiming).items(), key=lambda item: abs(item[1] - weight.std().item()))[0],
        gamma=None if block.gamma is None else block.gamma[0].item(),
        drop_path=model.stages[-1][-1].drop_path.rate)


FULL_STEM, STEM = '7x7/2 3>8, BN, ReLU, pool/2', '4x4/4 3>{}, BN'
BOTTLENECK = dict(block='1x1 32>16, BN, ReLU, {0}3x3/2 16>16, BN, ReLU, 1x1 16>64, BN, 1x1/2 32>64, BN, ReLU',
                  next='1x1 64>16, BN, ReLU, {0}3x3 16>16, BN, ReLU, 1x1 16>64, BN, ReLU')
WIDE = dict(block='1x1 48>24, BN, ReLU, d3x3/2 24>24, BN, ReLU, 1x1 24>96, BN, 1x1/2 48>96, BN, ReLU',
            next='1x1 96>24, BN, ReLU, d3x3 24>24, BN, ReLU, 1x1 24>96, BN, ReLU')
INVERTED = dict(block='1x1 12>96, BN, ReLU, d3x3/2 96>96, BN, ReLU, 1x1 96>24, BN, 1x1/2 12>24, BN, ReLU',
                next='1x1 24>96, BN, ReLU, d3x3 96>96, BN, ReLU, 1x1 96>24, BN, ReLU')
MOVED = dict(block='d{0}x{0}/2 12>12, BN, {1}, 1x1 12>96, BN, {1}, 1x1 96>24, BN, 1x1/2 12>24, BN, {1}',
             next='d{0}x{0} 24>24, BN, {1}, 1x1 24>96, BN, {1}, 1x1 96>24, BN, {1}')
ONE_ACTIVATION = dict(block='d7x7/2 12>12, BN, 1x1 12>96, BN, GELU, 1x1 96>24, BN, 1x1/2 12>24, BN',
                      next='d7x7 24>24, BN, 1x1 24>96, BN, GELU, 1x1 96>24, BN')
ONE_NORM = dict(block='d7x7/2 12>12, {0}, 1x1 12>96, GELU, 1x1 96>24, 1x1/2 12>24, {0}',
                next='d7x7 24>24, {0}, 1x1 24>96, GELU, 1x1 96>24')
CONVNEXT = dict.fromkeys(('block', 'next'), 'd7x7 24>24, LN, 1x1 24>96, GELU, 1x1 96>24')


def written(layers, *values):
    return {part: text.format(*values) for part, text in layers.items()}


RESNET = dict(depths=(3, 4, 6, 3), weights='kaiming', gamma=None, drop_path=0)
RECIPE = dict(depths=(3, 4, 6, 3), weights='normal', gamma=pytest.approx(1e-6), drop_path=.1)
RATIO = dict(RECIPE, depths=(3, 3, 9, 3))
#: Step -> what it is made of, at an eighth of the width, as the paper's sections 2.1 to 2.6 and figures 3 and 4 say.
ANATOMY = {
    'resnet': dict(RESNET, stem=FULL_STEM, before='', **written(BOTTLENECK, '')),
    'recipe': dict(RECIPE, stem=FULL_STEM, before='', **written(BOTTLENECK, '')),
    'stage_ratio': dict(RATIO, stem=FULL_STEM, before='', **written(BOTTLENECK, '')),
    'patchify_stem': dict(RATIO, stem=STEM.format(8), before='', **written(BOTTLENECK, '')),
    'depthwise_conv': dict(RATIO, stem=STEM.format(8), before='', **written(BOTTLENECK, 'd')),
    'increase_width': dict(RATIO, stem=STEM.format(12), before='', **WIDE),
    'inverted_bottleneck': dict(RATIO, stem=STEM.format(12), before='', **INVERTED),
    'move_up_depthwise': dict(RATIO, stem=STEM.format(12), before='', **written(MOVED, 3, 'ReLU')),
    **{f'kernel_{k}': dict(RATIO, stem=STEM.format(12), before='', **written(MOVED, k, 'ReLU')) for k in (5, 7, 9, 11)},
    'gelu': dict(RATIO, stem=STEM.format(12), before='', **written(MOVED, 7, 'GELU')),
    'fewer_activations': dict(RATIO, stem=STEM.format(12), before='', **ONE_ACTIVATION),
    'fewer_norms': dict(RATIO, stem=STEM.format(12), before='', **written(ONE_NORM, 'BN')),
    'layer_norm': dict(RATIO, stem='4x4/4 3>12, LN', before='', **written(ONE_NORM, 'LN')),
    'separate_downsampling': dict(RATIO, stem='4x4/4 3>12, LN', before='LN, 2x2/2 12>24', **CONVNEXT),
}


@pytest.mark.parametrize('step', NAMES)
def test_each_step_is_built_as_the_paper_says(step, monkeypatch):
    assert anatomy(small(step)) == ANATOMY[step]
    # With its change taken out, it is not; so the table tells each step from that before it.
    if step != 'resnet':
        monkeypatch.setattr(roadmap, 'STEPS', [s._replace(changes={}) if s.name == step else s for s in STEPS])
        assert anatomy(small(step)) != ANATOMY[step]


@pytest.mark.parametrize('step', NAMES)
def test_initial_values(step):
    """Drop path rises from 0 with the depth; weights have the deviation of the step, and biases are 0."""
    torch.manual_seed(0)
    model = small(step)
    rates = [block.drop_path.rate for stage in model.stages for block in stage]
    assert rates == pytest.approx(torch.linspace(0, rates[-1], len(rates)).tolist())
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.ndim > 1}
    for name, weight in weights.items():
        wanted = (2 * weight.shape[1] / weight.numel()) ** .5 if step == 'resnet' else .02
        assert weight.std().item() == pytest.approx(wanted, rel=.2), name
        assert abs(weight.mean()) < wanted * 5 / weight.numel() ** .5, name
    biases = [bias for name, bias in model.named_parameters() if name.endswith('bias')]
    assert biases and not any(bias.any() for bias in biases)


def test_the_larger_regime_differs_in_depth_width_and_drop_path():
    for step in range(LAST + 1):
        small_design, large = (design_of(regime, step) for regime in REGIMES)
        same = large._replace(depths=small_design.depths, width=small_design.width,
                              drop_path_rate=small_design.drop_path_rate)
        assert same == small_design
        assert large.depths == ((3, 24, 36, 3) if step < 2 else (3, 3, 27, 3))
        assert large.width == (64 if step < 2 else 84 if step < 5 else 128)
        assert large.drop_path_rate == (.5 if step else 0)


@pytest.mark.parametrize('step', NAMES)
def test_the_branch_is_added_and_the_sum_is_activated(step):
    """With a layer scale of 0 a block is its shortcut, and the activation behind the addition."""
    block = randomised(small(step, layer_scale_init_value=1.)).stages[1][0]
    x = torch.rand(2, _width_in(block), 8, 8) - .5
    branch, shortcut, whole = _branch(block, x), block.shortcut(x), block(x)
    scaled = shortcut + block.gamma[:, None, None] * branch
    behind = dict(ReLU=nn.functional.relu, GELU=nn.functional.gelu, Identity=lambda y: y)[type(block.act).__name__]
    assert type(block.act).__name__ == ('Identity' if find_step(step) >= find_step('fewer_activations') else
                                        'GELU' if step == 'gelu' else 'ReLU')
    assert relative_difference(whole, behind(scaled)) < 1e-6
    assert relative_difference(whole, behind(shortcut + branch)) > 1e-3, 'gamma takes part'
    block.drop_path.forward = torch.zeros_like
    assert torch.equal(block(x), behind(shortcut)), 'the branch alone is dropped'


def _width_in(block):
    first = getattr(block, block.branch[0])
    return first.in_features if isinstance(first, Pointwise) else first.in_channels


def _branch(block, x):
    for name in block.branch:
        x = getattr(block, name)(x.clone())
    return x


# Both ends.

def to_resnet(name):
    """A parameter's name in torchvision's and timm's ResNet."""
    name = re.sub(r'^downsample_layers\.0\.0\.', 'conv1.', name)
    name = re.sub(r'^downsample_layers\.0\.1\.', 'bn1.', name)
    name = re.sub(r'^stages\.(\d)\.', lambda match: f'layer{int(match[1]) + 1}.', name)
    for own, other in (('pwconv1', 'conv1'), ('norm1', 'bn1'), ('dwconv', 'conv2'), ('norm', 'bn2'),
                       ('pwconv2', 'conv3'), ('norm2', 'bn3'), ('shortcut', 'downsample')):
        name = re.sub(rf'^(layer\d\.\d+\.){own}\.', rf'\g<1>{other}.', name)
    return name


@pytest.mark.parametrize(('library', 'regime'), [('torchvision', 'resnet50'), ('timm', 'resnet200')])
def test_step_0_is_the_libraries_resnet(library, regime):
    module = pytest.importorskip('torchvision.models' if library == 'torchvision' else 'timm.models',
                                 reason=f'{library} is not installed')
    other = randomised(unset(getattr(module, regime)).to_empty(device='cpu'))
    own = unset(ModernizedResNet, regime, 0).eval()
    theirs = {name: tensor for name, tensor in other.state_dict().items() if not name.startswith('fc.')}
    assert {to_resnet(name) for name in own.state_dict()} == set(theirs)
    own.load_state_dict({name: theirs[to_resnet(name)].reshape(tensor.shape)
                         for name, tensor in own.state_dict().items()}, assign=True)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found, y, wanted = own(x), x, []
        for name, layer in list(other.named_children())[:8]:
            y = layer(y)
            wanted += [y] if name.startswith('layer') else []
    assert [relative_difference(a, b) < 1e-5 for a, b in zip(found, wanted, strict=True)] == [True] * 4


@pytest.mark.parametrize('regime', REGIMES)
def test_the_last_step_is_convnext(regime):
    arch = ENDS[regime]
    assert (design_of(regime, LAST).depths, design_of(regime, LAST).channels) == ARCHS[arch]
    other, x = randomised(unset(ConvNeXt, arch).to_empty(device='cpu')), torch.rand(1, 3, 64, 96)
    own = unset(ModernizedResNet, regime, out_norms=True).eval()
    own.load_state_dict(other.state_dict(), assign=True)
    with torch.no_grad():
        for norms in (True, False):
            far = [relative_difference(a, b) for a, b in zip(own(x), other(x), strict=True)]
            assert max(far) < 1e-5, f'with output norms: {norms}'
            for model in (own, other):
                for i in range(4):
                    setattr(model, f'norm{i}', nn.Identity())


@pytest.mark.parametrize('step', [0, 5, 15, LAST])
def test_a_classifier_reads_means(step):
    model = randomised(small(step, pool=True, out_indices=(3,)))
    vector, = model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    has_norm = step == LAST
    assert vector.shape == (2, model.channels[-1])
    assert hasattr(model, 'norm3') == has_norm
    norm = model.norm3 if has_norm else nn.Identity()
    model.norm3, model.pool = nn.Identity(), False
    features, = model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert relative_difference(vector, norm(features.mean((2, 3)))) < 1e-5


# As a backbone.

@pytest.mark.parametrize(('regime', 'step'), [*(('resnet50', step) for step in NAMES), ('resnet200', 2),
                                              ('resnet200', LAST)])
def test_outputs_as_declared(regime, step):
    with torch.device('meta'):
        model = ModernizedResNet(regime, step, width_divisor=4)
        outputs = model(torch.empty(2, 3, 64, 96))
    assert model.channels == tuple(outputs[0].shape[1] * 2 ** i for i in range(4))
    assert [tuple(o.shape) for o in outputs] == [
        (2, c, 64 // (4 * 2 ** i), 96 // (4 * 2 ** i)) for i, c in enumerate(model.channels)]


@pytest.mark.parametrize('step', [0, 6, 11, 14, LAST])
def test_every_parameter_learns_and_outputs_are_contiguous(step):
    for indices, settings in (((1, 2), {}), ((3,), dict(out_norms=True)), ((3,), dict(pool=True))):
        model = small(step, layer_scale_init_value=1., drop_path_rate=0., out_indices=indices, **settings)
        outputs = model(torch.rand(2, 3, 64, 64))
        assert all(o.is_contiguous() for o in outputs)
        sum((o * torch.rand_like(o)).sum() for o in outputs).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_narrow_network_keeps_to_its_memory():
    """oneDNN's strided 1x1 convolution of few channels does not, where it works with AVX2; glibc then aborts."""
    code = ('import torch; from convnext_mm import ModernizedResNet\n'
            'model = ModernizedResNet("resnet50", "fewer_norms", width_divisor=32)\n'
            'model.to(memory_format=torch.channels_last)\n'
            'for _ in range(10): sum(o.sum() for o in model(torch.rand(6, 3, 64, 64))).backward()')
    ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize('step', [0, LAST])
@pytest.mark.parametrize('frozen', [-1, 0, 2])
def test_frozen_parts_stay_as_they_are(step, frozen):
    model = small(step, frozen_stages=frozen)
    # Before it is trained: an optimizer is built of what learns.
    still = {name.split('.')[0] + name.split('.')[1] for name, p in model.named_parameters() if not p.requires_grad}
    before = {name: tensor.clone() for name, tensor in model.train().state_dict().items()}
    sum(o.sum() for o in model(torch.rand(2, 3, 64, 64))).backward()
    layers = {'downsample_layers0', *(f'stages{i}' for i in range(frozen)),
              *(f'downsample_layers{i}' for i in range(frozen) if step == LAST)} if frozen >= 0 else set()
    assert still == layers
    moved = {name.split('.')[0] + name.split('.')[1] for name, tensor in model.state_dict().items()
             if not torch.equal(tensor, before[name])}
    assert not moved & layers, 'statistics of frozen batch norms stay, too'


BAD = [
    (dict(regime='resnet101'), ValueError, "regime must be one of resnet50, resnet200, got 'resnet101'"),
    (dict(regime=50), ValueError, 'regime .*got 50'),
    (dict(step='bigger'), ValueError, r"step .*0 to 16.*resnet, recipe, .*separate_downsampling, got 'bigger'"),
    (dict(step=17), ValueError, 'step .*0 to 16, got 17; .*patchify_stem'),
    (dict(step=True), TypeError, 'step .*got True; .*patchify_stem'),
    (dict(width_divisor=97), ValueError, 'width_divisor .*1 to 96, got 97'),
    (dict(drop_path_rate=1), ValueError, 'drop_path_rate .*got 1'),
    (dict(layer_scale_init_value=-1), ValueError, 'layer_scale_init_value .*got -1'),
    (dict(out_norms=True, pool=True), ValueError, 'out_norms must be False with pool=True'),
    (dict(pool=1), TypeError, 'pool .*got 1'), (dict(out_norms=1), TypeError, 'out_norms .*got 1'),
    (dict(frozen_stages=5), ValueError, 'frozen_stages .*got 5'),
    (dict(out_indices=(4,)), ValueError, r'out_indices\[0\].*got 4'),
]


@pytest.mark.parametrize(('arguments', 'error', 'message'), BAD, ids=lambda value: str(value)[:40])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error) as info:
        ModernizedResNet(**arguments)
    assert re.search(message, str(info.value)) and '\n' not in str(info.value)


def test_bad_images():
    with pytest.raises(ValueError, match=r'32 x 32 pixels.*31 x 64'):
        small(0)(torch.rand(1, 3, 31, 64))


# Checkpoints and layers.

@pytest.mark.parametrize('step', [0, 14, LAST])
def test_a_checkpoint_of_the_same_step_is_loaded(step, tmp_path):
    trained, x = randomised(small(step)), torch.rand(1, 3, 64, 64)
    state = {f'backbone.{name}': tensor for name, tensor in trained.state_dict().items()}
    torch.save(dict(state_dict={**state, 'head.fc.weight': torch.rand(3, 3)}), tmp_path / 'epoch_1.pth')
    model = small(step, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'epoch_1.pth'), prefix='backbone.'))
    model.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(model.eval()(x), trained(x), strict=True))


def test_counters_of_batch_norms_may_be_missing():
    """Files of old versions of torch have none."""
    trained, model = randomised(small(0)), small(0)
    state = {name: tensor for name, tensor in trained.state_dict().items() if not name.endswith('num_batches_tracked')}
    model.load_state_dict(state, strict=False)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_a_checkpoint_of_another_step_is_refused(prefix):
    state = {prefix + name: tensor for name, tensor in small('gelu').state_dict().items()}
    model = nn.ModuleDict({'backbone': small('fewer_norms')}) if prefix else small('fewer_norms')
    with pytest.raises(CheckpointError, match=r'not that of regime=resnet50, step=fewer_norms.*missing.*unexpected'):
        model.load_state_dict(state, strict=False)


def test_the_last_step_takes_a_classifiers_weights():
    whole = {**ConvNeXt('tiny', out_indices=(3,)).state_dict(), 'norm.weight': torch.ones(768), 'head.weight': 0}
    whole = {name: tensor for name, tensor in whole.items() if not name.startswith('norm3')}
    ModernizedResNet(layer_scale_init_value=1e-6).load_state_dict(whole, strict=False)


@pytest.mark.parametrize('step', [0, 7, LAST])
def test_layer_ids_go_by_depth(step):
    """The rule that the project applies to ConvNeXt: stem, stages, and three blocks each of the third one."""
    constructor = LayerDecayOptimWrapperConstructor(
        dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1., weight_decay=.1)), dict(decay_rate=.5))
    model = small(step)
    groups = constructor.group_parameters(nn.ModuleDict({'backbone': model}))
    layers = 3 + -(-model.depths[2] // 3)
    ids = {name: group['layer_id'] for group in groups for name in group['param_names']}
    stem = model.downsample_layers[0].named_parameters('backbone.downsample_layers.0')
    assert {ids[name] for name, _ in stem} == {0}
    assert [ids[f'backbone.stages.2.{b}.dwconv.weight'] for b in range(model.depths[2])] == [
        3 + b // 3 for b in range(model.depths[2])]
    assert (ids['backbone.stages.0.0.dwconv.weight'], ids['backbone.stages.1.0.dwconv.weight'],
            ids['backbone.stages.3.2.dwconv.weight']) == (1, 2, layers)
    assert {group['weight_decay'] for group in groups for p in group['params'] if p.ndim == 1} == {0}


def test_the_table_is_whole():
    """Each step changes fields that exist, in both regimes where they differ; names are unique."""
    assert len(STEPS) == 17 and len(set(NAMES)) == 17
    assert [NAMES.index(s.name) for s in STEPS if not s.adopted] == [10, 11]
    for step in STEPS:
        assert set(step.changes) <= set(roadmap.Design._fields) and isinstance(step.figures, Both)
