"""The backbone: shapes, counts, arguments, freezing, and features equal to those of other libraries."""
import re

import numpy as np
import pytest
import torch

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.published.paper import published
from tests.helpers.models import randomise, relative_difference

TINY = dict(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32))
COUNTS = dict(tiny=27_821_472, small=49_456_032, base=87_568_256, large=196_233_024, xlarge=348_151_552)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(('arch', 'parameters'), COUNTS.items())
def test_parameter_counts(arch, parameters):
    with torch.device('meta'):
        assert count(ConvNeXt(arch)) == parameters


@pytest.mark.parametrize('arch', published()['arch'])
def test_paper_archs(arch):
    row = published()['arch'][arch]
    assert ARCHS[arch].depths == tuple(row['depths'])
    assert ARCHS[arch].channels == tuple(row['channels'])


@pytest.mark.parametrize('arch', [*ARCHS, TINY])
def test_outputs_as_declared(arch):
    with torch.device('meta'):
        model = ConvNeXt(arch)
        outputs = model(torch.empty(2, 3, 64, 96))
    assert isinstance(outputs, tuple)
    assert [tuple(o.shape) for o in outputs] == [
        (2, c, 64 // (4 * 2 ** i), 96 // (4 * 2 ** i)) for i, c in enumerate(model.channels)]


@pytest.mark.parametrize(('indices', 'emitted'), [
    ((0, 1, 2, 3), (0, 1, 2, 3)), ([1, 3], (1, 3)), (range(1, 4), (1, 2, 3)), ((-1,), (3,)), ((3, 0), (0, 3)),
    ([-2, 0], (0, 2)), ((1,), (1,))])
def test_out_indices(indices, emitted):
    model = ConvNeXt(TINY, out_indices=indices)
    assert model.out_indices == emitted
    outputs = model(torch.rand(1, 3, 64, 64))
    assert [o.shape[1] for o in outputs] == [TINY['channels'][i] for i in emitted]
    norms = {name for name, _ in model.named_children() if name.startswith('norm')}
    assert norms == {f'norm{i}' for i in emitted}, 'a norm exists for each emitted stage and no other'
    sum(o.sum() for o in outputs).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == [], 'every parameter takes part'


def test_outputs_pass_their_own_norms():
    model = randomise(ConvNeXt(TINY)).eval()
    for i, output in enumerate(model(torch.rand(2, 3, 64, 64))):
        norm = getattr(model, f'norm{i}')
        plain = (output - norm.bias[:, None, None]) / norm.weight[:, None, None]
        assert plain.mean(1).abs().max() < 1e-4
        assert (plain.var(1, unbiased=False) - 1).abs().max() < 1e-2


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_outputs_are_contiguous_for_operators_that_take_it_for_granted(memory_format):
    """mmcv's RoIAlign reads channels-last memory as NCHW without a word."""
    x = torch.rand(2, 3, 64, 64).to(memory_format=memory_format)
    assert all(o.is_contiguous() for o in ConvNeXt(TINY)(x))


def test_features_survive_roi_align():
    roi_align = pytest.importorskip('mmcv.ops', reason='mmcv is not installed').RoIAlign((7, 7), 1 / 4, 0)
    rois = torch.tensor([[0, 4., 8, 40, 60], [1, 0, 0, 20, 30]])
    features = randomise(ConvNeXt(TINY))(torch.rand(2, 3, 64, 64))[0]
    whole = roi_align(features, rois)
    assert relative_difference(whole[:, 2:3], roi_align(features[:, 2:3].clone(), rois)) < 1e-6


BAD = [
    (dict(arch='huge'), ValueError, r"arch .*tiny.*got 'huge'"),
    (dict(arch=3), TypeError, 'arch .*got 3'),
    (dict(arch=dict(depths=(1, 1, 1, 1))), ValueError, r"arch .*depths and channels.*\['depths'\]"),
    (dict(arch=dict(depths=(1, 1, 1), channels=(8, 8, 8, 8))), ValueError, r"arch\['depths'\].*\[1, 1, 1\]"),
    (dict(arch=dict(depths=(1, 1, 0, 1), channels=(8, 8, 8, 8))), ValueError, r"arch\['depths'\]\[2\].*got 0"),
    (dict(out_indices={0, 1}), TypeError, 'out_indices.*sequence'),
    (dict(arch=dict(depths='3333', channels=(8, 8, 8, 8))), TypeError, r"arch\['depths'\].*'3333'"),
    (dict(in_channels=0), ValueError, 'in_channels.*got 0'),
    (dict(in_channels=3.0), TypeError, 'in_channels.*got 3.0'),
    (dict(out_indices=(0, 4)), ValueError, r'out_indices\[1\].*-4 to 3.*got 4'),
    (dict(out_indices=(-5,)), ValueError, r'out_indices\[0\].*got -5'),
    (dict(out_indices=()), ValueError, r'out_indices.*non-empty.*\[\]'),
    (dict(out_indices=(3, -1)), ValueError, r'out_indices.*distinct.*\[3, -1\]'),
    (dict(out_indices=3), TypeError, 'out_indices.*got 3'),
    (dict(out_indices=(True,)), TypeError, r'out_indices\[0\].*got True'),
    (dict(drop_path_rate=1.), ValueError, 'drop_path_rate.*got 1.0'),
    (dict(drop_path_rate=-.1), ValueError, 'drop_path_rate.*got -0.1'),
    (dict(drop_path_rate='0.1'), TypeError, 'drop_path_rate.*'),
    (dict(drop_path_rate=float('nan')), ValueError, 'drop_path_rate.*nan'),
    (dict(layer_scale_init_value=-1), ValueError, 'layer_scale_init_value.*got -1'),
    (dict(frozen_stages=5), ValueError, 'frozen_stages.*-1 to 4.*got 5'),
    (dict(frozen_stages=None), TypeError, 'frozen_stages.*None'),
    (dict(with_cp='all'), TypeError, "with_cp.*got 'all'"),
    (dict(with_cp=5), ValueError, 'with_cp.*0 to 4.*got 5'),
    (dict(with_cp=(0, 4)), ValueError, r'with_cp\[1\].*got 4'),
    (dict(memory_format='nhwc'), ValueError, "memory_format.*channels_last, contiguous_format.*got 'nhwc'"),
    (dict(memory_format=1), ValueError, 'memory_format.*got 1'),
    (dict(memory_format=np.arange(2)), ValueError, r'memory_format.*got array\(\[0, 1\]\)'),
    (dict(compile='yes'), TypeError, "compile.*got 'yes'"),
    (dict(out_norms='yes'), TypeError, "out_norms.*got 'yes'"),
    (dict(use_grn='yes'), TypeError, "use_grn.*got 'yes'"),
    (dict(output_stride=12), ValueError, 'output_stride.*8, 16, 32.*got 12'),
    (dict(output_stride=4), ValueError, 'output_stride.*got 4'),
    (dict(output_stride='8'), TypeError, "output_stride.*got '8'"),
    (dict(output_stride=8.0), TypeError, 'output_stride.*got 8.0'),
]


@pytest.mark.parametrize(('arguments', 'error', 'message'), BAD, ids=lambda value: str(value)[:40])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error) as info:
        ConvNeXt(**{'arch': TINY, **arguments})
    assert re.search(message, str(info.value))
    assert '\n' not in str(info.value)


@pytest.mark.parametrize(('shape', 'out_indices', 'message'), [
    ((1, 3, 31, 64), (0, 1, 2, 3), '32 x 32 pixels.*31 x 64'),
    ((1, 3, 64, 15), (0, 2), '16 x 16 pixels.*64 x 15'),
    ((1, 4, 64, 64), (3,), r'in_channels=3.*\(1, 4, 64, 64\)'),
    ((3, 64, 64), (3,), r'\(N, 3, H, W\).*\(3, 64, 64\)')])
def test_bad_images(shape, out_indices, message):
    with pytest.raises(ValueError, match=message):
        ConvNeXt(TINY, out_indices=out_indices)(torch.rand(shape))


def test_smallest_image():
    assert [tuple(o.shape[2:]) for o in ConvNeXt(TINY)(torch.rand(1, 3, 32, 33))] == [(8, 8), (4, 4), (2, 2), (1, 1)]
    assert ConvNeXt(TINY, out_indices=(0,))(torch.rand(1, 3, 4, 5))[0].shape[2:] == (1, 1)


def test_drop_path_grows_linearly():
    model = ConvNeXt('tiny', drop_path_rate=.4)
    rates = [block.drop_path.rate for stage in model.stages for block in stage]
    assert rates == pytest.approx([.4 * i / 17 for i in range(18)])


@pytest.mark.parametrize('scale', [0, 1e-6, 1.0])
def test_layer_scale(scale):
    gammas = [block.gamma for stage in ConvNeXt(TINY, layer_scale_init_value=scale).stages for block in stage]
    assert all(g is None if scale == 0 else (g == scale).all() for g in gammas)


def test_initialisation_is_the_papers():
    for name, parameter in ConvNeXt('tiny').named_parameters():
        if name.endswith('bias'):
            assert (parameter == 0).all(), name
        elif 'norm' in name or re.search(r'downsample_layers\.(0\.1|[123]\.0)', name):
            assert (parameter == 1).all(), name
        elif not name.endswith('gamma'):
            assert parameter.std().item() == pytest.approx(.02, rel=.05), name
            assert parameter.mean().abs() < .002, name


@pytest.mark.parametrize('frozen', [-1, 0, 1, 2, 3, 4])
def test_frozen_stages(frozen):
    model = ConvNeXt(TINY, frozen_stages=frozen, drop_path_rate=.5)
    expected = [f'downsample_layers.{i}.' for i in range(max(frozen, 1) if frozen >= 0 else 0)]
    expected += [f'stages.{i}.' for i in range(max(frozen, 0))]
    for mode in (True, False, True):
        assert model.train(mode) is model
        for name, parameter in model.named_parameters():
            assert parameter.requires_grad != name.startswith(tuple(expected)), name
        for name, module in model.named_modules():
            assert module.training == (mode and not f'{name}.'.startswith(tuple(expected))), name
    sum(o.sum() for o in model(torch.rand(2, 3, 32, 32))).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


# With a frozen stem, no tensor that enters the first block asks for a gradient: only reentrant checkpoints mind.
@pytest.mark.parametrize('frozen_stages', [-1, 0])
def test_with_cp_changes_nothing_but_memory(frozen_stages):
    arch = dict(depths=(2, 2, 4, 2), channels=TINY['channels'])
    plain, recomputing = (randomise(ConvNeXt(arch, frozen_stages=frozen_stages, with_cp=with_cp))
                          for with_cp in (False, True))
    x, gradients, saved = torch.rand(2, 3, 64, 64), [], []
    for model in (plain, recomputing):
        kept = {}

        def pack(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = model(x)
        sum(o.pow(2).sum() for o in features).backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        saved.append(sum(kept.values()) - sum(kept.get(p.data_ptr(), 0) for p in model.parameters()))
    assert all(a.equal(b) for a, b in zip(*gradients))
    assert saved[1] < saved[0] / 2


@pytest.mark.parametrize(('with_cp', 'stages'), [
    (False, ()), (True, (0, 1, 2, 3)), (0, ()), (2, (0, 1)), (4, (0, 1, 2, 3)), ((2, 0), (0, 2)), ([], ())])
def test_stages_that_are_recomputed(with_cp, stages, monkeypatch):
    model, seen = ConvNeXt(TINY, with_cp=with_cp), []
    monkeypatch.setattr(torch.utils.checkpoint, 'checkpoint',
                        lambda block, x, use_reentrant: (seen.append(block), block(x))[1])
    model(torch.rand(1, 3, 32, 32))
    assert seen == [block for stage in stages for block in model.stages[stage]]


@pytest.mark.parametrize('use_grn', [False, True])
def test_memory_formats_give_the_same(use_grn):
    models = [randomise(ConvNeXt(TINY, memory_format=name, use_grn=use_grn)).double()
              for name in ('channels_last', 'contiguous_format')]
    x = torch.rand(2, 3, 64, 96).double()
    for a, b in zip(*(model(x) for model in models)):
        assert a.is_contiguous() and b.is_contiguous()
        assert relative_difference(a, b) < 1e-12


@pytest.mark.parametrize('dtype', [torch.bfloat16])
def test_autocast_stays_finite_on_large_activations(dtype):
    model = randomise(ConvNeXt(TINY))
    with torch.autocast('cpu', dtype):
        outputs = model(torch.rand(1, 3, 64, 64) * 1e5)
    assert all(o.isfinite().all() for o in outputs)


MMPRETRAIN_NAMES = [('depthwise_conv', 'dwconv'), ('pointwise_conv', 'pwconv')]
TIMM_NAMES = [(r'^stem\.', 'downsample_layers.0.'), (r'stages\.(\d)\.downsample\.', r'downsample_layers.\1.'),
              (r'\.blocks\.', '.'), ('conv_dw', 'dwconv'), (r'mlp\.fc', 'pwconv')]


def rename(state, names):
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in names:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def mmpretrain_features(arch, x):
    library = pytest.importorskip('mmpretrain.models', reason='mmpretrain is not installed').ConvNeXt(
        arch, out_indices=(0, 1, 2, 3), gap_before_final_norm=False)
    randomise(library)
    library.eval()  # It returns None.
    return library(x), rename(library.state_dict(), MMPRETRAIN_NAMES)


def timm_features(arch, x, **settings):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    library = randomise(timm.create_model(f'convnext_{arch}', num_classes=0, **settings)).eval()
    state = {k: v for k, v in rename(library.state_dict(), TIMM_NAMES).items() if not k.startswith('head.')}
    norms = [randomise(torch.nn.LayerNorm(c, eps=1e-6), seed=i) for i, c in enumerate(ARCHS[arch].channels)]
    stages = library.forward_intermediates(x, intermediates_only=True, norm=False)
    features = [norm(s.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, s in zip(norms, stages)]
    state.update({f'norm{i}.{k}': v for i, norm in enumerate(norms) for k, v in norm.state_dict().items()})
    return features, state


@pytest.mark.parametrize('arch', COUNTS)
@pytest.mark.parametrize('library', [mmpretrain_features, timm_features])
@torch.no_grad()
def test_features_equal_other_libraries(library, arch):
    """Same weights, same features, to 1e-5 of the largest one; a model short of one block does not pass."""
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    theirs, state = library(arch, x)
    with torch.device('meta'):
        model = ConvNeXt(arch)
    assert model.load_state_dict(state, assign=True).missing_keys == []
    ours = model.eval()(x)
    assert max(relative_difference(a, b) for a, b in zip(ours, theirs)) < 1e-5
    model.stages[2][4] = torch.nn.Identity()
    assert relative_difference(model(x)[2], theirs[2]) > 1e-3


@pytest.mark.parametrize('output_stride', [8, 16, 32])
@pytest.mark.parametrize('shape', [(96, 128), (72, 104)], ids=str)
@torch.no_grad()
def test_output_stride_equals_timm(output_stride, shape):
    """Larger maps from the same weights; a map of 9 x 13 at stride 8 shows the padding at every edge."""
    x = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(1))
    theirs, state = timm_features('tiny', x, output_stride=output_stride)
    with torch.device('meta'):
        model = ConvNeXt('tiny', output_stride=output_stride)
    model.load_state_dict(state, assign=True)
    ours = model.eval()(x)
    assert [o.shape[2] for o in ours] == [shape[0] // min(4 * 2 ** i, output_stride) for i in range(4)]
    assert max(relative_difference(a, b) for a, b in zip(ours, theirs)) < 1e-5


@pytest.mark.parametrize('output_stride', [8, 16])
def test_output_stride_changes_no_weight(output_stride):
    plain, dilated = ConvNeXt(TINY), ConvNeXt(TINY, output_stride=output_stride)
    assert {n: p.shape for n, p in plain.state_dict().items()} == {n: p.shape for n, p in dilated.state_dict().items()}
    sum(o.sum() for o in dilated(torch.rand(1, 3, output_stride, 40))).backward()
    assert [n for n, p in dilated.named_parameters() if p.grad is None] == []
    with pytest.raises(ValueError, match=f'{output_stride} x {output_stride} pixels'):
        dilated(torch.rand(1, 3, output_stride - 1, 40))
