"""The block's own forward and backward passes against the plain formula, part by part."""
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext_mm import ConvNeXt
from convnext_mm.models.arguments import COMPILE_SINCE
from convnext_mm.models.layers import ConvNeXtBlock
from convnext_mm.models.ops import block as block_ops
from tests.helpers.kernels import TORCH
from tests.helpers.models import randomise, relative_difference

needs_float16 = pytest.mark.skipif(TORCH < (2, 4), reason=f'torch {torch.__version__} has no float16 on the CPU')
HALF = [torch.bfloat16, pytest.param(torch.float16, marks=needs_float16)]
GAMMAS = [0, 1e-6, 1e-3, 1.]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several pieces, the last of which is shorter, in images this small."""
    monkeypatch.setattr(block_ops, 'PIECE', 50)


@pytest.fixture(params=['AVX512', 'AVX2', 'torch'])
def products(request, monkeypatch):
    """What multiplies matrices: oneDNN, by what it is chosen by on two kinds of processors, or torch's library."""
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: request.param)
    with torch.backends.mkldnn.flags(enabled=request.param != 'torch'):
        yield request.param


def make_block(gamma=1., channels=16, **kwargs):
    block = randomise(ConvNeXtBlock(channels, layer_scale_init_value=gamma, **kwargs))
    if gamma:
        block.gamma.data.uniform_(.5 * gamma, 1.5 * gamma, generator=torch.Generator().manual_seed(1))
    return block.train()


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def run(function, block, x, autocast=None):
    """Result and gradients, name -> tensor; the same samples are dropped each time."""
    block.zero_grad()
    x = x.detach().requires_grad_()
    torch.manual_seed(3)
    with torch.autocast('cpu', autocast or torch.bfloat16, enabled=autocast is not None):
        result = function(x)
    result.backward(images(*x.shape).to(result.dtype))
    return dict(result=result.detach(), x=x.grad, **{
        n: None if p.grad is None else p.grad.clone() for n, p in block.named_parameters()})


CASES = [dict(gamma=gamma, **case) for gamma in GAMMAS for case in (
    {}, dict(drop_path_rate=.4), dict(dilation=2), dict(use_grn=True), dict(memory_format=torch.contiguous_format))]


@pytest.mark.parametrize(('case', 'dtype', 'tolerance'), [
    (case, dtype, tolerance) for case in CASES for dtype, tolerance in (
        (torch.float64, 1e-12), (torch.float32, 1e-5))], ids=str)
def test_results_and_gradients_of_the_plain_formula(case, dtype, tolerance):
    block, x = make_block(**case).to(dtype), images(5, 16, 13, 9).to(dtype)
    expected, found = run(block._by_parts, block, x), run(block, block, x)
    assert block._is_whole()
    assert {name: relative_difference(found[name], expected[name]) for name in expected} == pytest.approx(
        dict.fromkeys(expected, 0), abs=tolerance)


@pytest.mark.parametrize('dtype', HALF, ids=str)
@pytest.mark.parametrize('case', CASES, ids=str)
def test_no_further_from_float64_than_the_plain_formula_under_autocast(case, dtype):
    """The errors of one tensor scatter; the medians over draws do not."""
    ratios = {}
    for seed in range(15):
        torch.manual_seed(seed)
        block = make_block(**case, channels=32)
        block.pwconv1.weight.data.normal_(0, .1)
        x = torch.randn(4, 32, 13, 9)
        plain, own = run(block._by_parts, block, x, dtype), run(block, block, x, dtype)
        exact = run(block._by_parts, block.double(), x.double())
        for name in exact:
            assert own[name].dtype == plain[name].dtype
            off = [torch.linalg.vector_norm(r[name] - exact[name]).item() for r in (own, plain)]
            ratios.setdefault(name, []).append((off[0] + 1e-30) / (off[1] + 1e-30))
    medians = {name: sorted(values)[7] for name, values in ratios.items()}
    assert max(medians.values()) < 1.1, medians


@pytest.mark.parametrize('case', CASES, ids=str)
def test_whatever_multiplies_matrices(case, products):
    block, x = make_block(**case), images(5, 16, 13, 9)
    expected, found = run(block._by_parts, block, x), run(block, block, x)
    block.eval()
    with torch.no_grad():
        expected['inference'], found['inference'] = block._by_parts(x), block(x)
    assert {name: relative_difference(found[name], expected[name]) for name in expected} == pytest.approx(
        dict.fromkeys(expected, 0), abs=1e-5)


def test_gelu_is_the_exact_one(products):
    x, weight, bias = images(50, 16), images(24, 16), images(24)
    found = block_ops._linear(x, weight, bias, None, gelu=True)
    exact = torch.nn.functional.gelu(torch.nn.functional.linear(x.double(), weight.double(), bias.double()))
    assert relative_difference(found, exact) < 1e-6


@pytest.mark.parametrize('dtype', HALF, ids=str)
def test_inference_under_autocast(dtype, products):
    block, x = make_block(channels=32).eval(), images(4, 32, 13, 9)
    with torch.no_grad():
        exact = block.double()._by_parts(x.double())
        block.float()
        with torch.autocast('cpu', dtype):
            off = [torch.linalg.vector_norm(function(x) - exact) for function in (block, block._by_parts)]
    assert off[0] < 1.1 * off[1]


def test_counters_of_operations_see_the_products():
    block, x = make_block(channels=32).eval(), images(1, 32, 8, 8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(x)
    assert counter.get_total_flops() == 2 * 64 * 32 * (49 + 2 * 4 * 32)


def test_gradcheck():
    """With samples dropped, gamma near its initial value and beyond, in pieces."""
    arguments = [images(2, 4, 6, 5), images(2, 4, 6, 5), torch.tensor([0., 1.6]), *(
        images(*shape) for shape in ((5,), (5,), (20, 5), (20,), (5, 20), (5,), (5,)))]
    arguments = [a.double().requires_grad_(i != 2) for i, a in enumerate(arguments)]
    assert torch.autograd.gradcheck(lambda *a: block_ops.residual_mlp(*a, 1e-6), arguments)


@pytest.mark.parametrize(('dtype', 'tolerance'), [
    (torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2),
    pytest.param(torch.float16, 2e-3, marks=needs_float16)], ids=str)
@pytest.mark.parametrize('gamma', [0, 1.])
@pytest.mark.parametrize('kept', ['0000', '1000', '0001', '0110', '1011', '1111'])
def test_dropped_samples_are_left_alone(kept, gamma, dtype, tolerance):
    """Whatever their branches would give: the others' results and the parameters' gradients are as without them."""
    block, scale = make_block(gamma), torch.tensor([1.25 * int(character) for character in kept])
    x, y, grad = images(3, 4, 7, 9, 16)
    y[scale == 0] = float('nan')
    parameters = [p.detach().to(torch.promote_types(dtype, p.dtype)) for n, p in block.named_parameters()
                  if not n.startswith('dwconv') and n != 'gamma']
    parameters.append(None if block.gamma is None else block.gamma.detach().to(parameters[0].dtype))

    def run(x, y, scale, grad):
        learning = [t if t is None else t.clone().requires_grad_() for t in (x, y, *parameters)]
        result = block_ops.residual_mlp(*learning[:2], scale, *learning[2:], 1e-6)
        learning = [t for t in learning if t is not None]
        return result, *torch.autograd.grad(result, learning, grad.to(result.dtype))
    arguments = x.to(parameters[0].dtype), y.to(dtype), scale, grad
    found, expected = run(*arguments), run(*(t[scale != 0] for t in arguments))
    for images_of_all, images_of_some in zip(found[:3], expected):
        torch.testing.assert_close(images_of_all[scale != 0], images_of_some, rtol=tolerance, atol=tolerance)
    assert torch.equal(found[0][scale == 0], arguments[0][scale == 0])
    assert torch.equal(found[1], grad.to(found[1].dtype))
    assert not found[2][scale == 0].any()
    for of_all, of_some in zip(found[3:], expected[3:], strict=True):
        torch.testing.assert_close(of_all, of_some, rtol=tolerance, atol=tolerance * (1 + of_some.abs().max().item()))


@pytest.mark.parametrize('shape', [(2, 3, 9, 8), (1, 2, 7, 1), (1, 2, 1, 9), (3, 1, 2, 2)])
def test_gradcheck_of_the_convolution(shape):
    x, weight, bias = images(*shape), images(shape[1], 1, 7, 7), images(shape[1])
    x, weight, bias = (t.double().requires_grad_() for t in (x, weight, bias))
    assert torch.autograd.gradcheck(lambda *a: block_ops.depthwise_conv(*a, 1), (x, weight, bias))


@pytest.mark.parametrize('frozen', ['dwconv', 'norm', 'pwconv1', 'pwconv2', 'gamma', 'pwconv',
                                    ('pwconv2.weight', 'gamma')])
def test_frozen_parts_get_no_gradient_and_change_no_other(frozen):
    block, x = make_block(), images(2, 16, 9, 9)
    expected = run(block._by_parts, block, x)
    for name, parameter in block.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    found = run(block, block, x)
    for name in expected:
        if name.startswith(frozen):
            assert found[name] is None
        else:
            assert relative_difference(found[name], expected[name]) < 1e-5


@pytest.mark.parametrize('drop_path_rate', [0, .5])
def test_kept_for_the_backward_pass(drop_path_rate):
    """The block's input, what the convolution made of it, and the values before the GELU of samples that are not
    dropped; nothing else of that size."""
    block, x, kept = make_block(channels=32, drop_path_rate=drop_path_rate), images(4, 32, 16, 16).requires_grad_(), {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = block(x)
    share = (result != x).flatten(1).any(1).float().mean().item()
    assert share == 1 if not drop_path_rate else 0 < share < 1
    parameters = sum(p.untyped_storage().nbytes() for p in block.parameters())
    # And what a sample is multiplied by.
    assert sum(kept.values()) <= (1 + 1 + 4 * share) * x.untyped_storage().nbytes() + parameters + 4 * len(x)


@pytest.mark.parametrize('summed', [1, 100, 10 ** 6])
def test_sums_in_parts(summed, monkeypatch):
    monkeypatch.setattr(block_ops, 'SUMMED', summed)
    rows = images(50, 16).bfloat16()
    torch.testing.assert_close(block_ops._sum_rows(rows, torch.float32), rows.double().sum(0).float())
    assert not block_ops._sum_rows(rows[:0], torch.float32).any()


def test_a_part_that_was_exchanged_or_has_a_hook_takes_part():
    block, x, seen = make_block(), images(1, 16, 8, 8), []
    handle = block.pwconv1.register_forward_hook(lambda *_: seen.append(1))
    hooked = block(x)
    handle.remove()
    assert seen == [1]
    torch.testing.assert_close(hooked, block(x))
    block.act = torch.nn.ReLU()
    assert relative_difference(block(x), hooked) > 1e-3


def test_result_is_channels_last_without_a_copy():
    block = make_block(channels=32)
    x = images(1, 32, 9, 9).contiguous(memory_format=torch.channels_last)
    with torch.profiler.profile() as profile, torch.no_grad():
        assert block(x).is_contiguous(memory_format=torch.channels_last)
    names = {event.key for event in profile.key_averages()}
    assert {'aten::addmm', 'mkldnn::_linear_pointwise'} & names
    assert not names & {'aten::clone', 'aten::contiguous'}, 'a layout was copied'


@pytest.mark.parametrize('batch', [0, 1])
def test_any_batch(batch, products):
    block, x = make_block(), images(batch, 16, 8, 8)
    found = run(block, block, x)
    assert found['result'].shape == x.shape
    assert all(value.isfinite().all() for value in found.values())


@pytest.fixture
def compilations(monkeypatch, size):
    """The graphs that were compiled; without generating code from them unless the long tests run."""
    graphs, compile = [], torch.compile

    def counting(graph, inputs):
        graphs.append(graph)
        if size(False, True):
            from torch._inductor.compile_fx import compile_fx
            return compile_fx(graph, inputs)
        return graph.forward
    monkeypatch.setattr(torch, 'compile', lambda function, **kwargs: compile(function, backend=counting, **kwargs))
    block_ops.compiled_block.cache_clear()
    torch._dynamo.reset()
    yield graphs
    block_ops.compiled_block.cache_clear()
    torch._dynamo.reset()


needs_compiler = pytest.mark.skipif(TORCH < COMPILE_SINCE, reason=f'compile=True needs torch {COMPILE_SINCE}')
SMALL = dict(depths=(2, 2, 3, 2), channels=(8, 16, 24, 32))


@needs_compiler
@pytest.mark.long
def test_compiled_once_for_all_sizes(compilations, monkeypatch):
    """Every call of every block runs compiled, with drop path on, whatever the size; a square one comes first."""
    model = randomise(ConvNeXt(SMALL, compile=True, drop_path_rate=.3))
    plain = ConvNeXt(SMALL, drop_path_rate=.3)
    assert plain.load_state_dict(model.state_dict()), 'the same keys'
    calls = []
    monkeypatch.setattr(block_ops, 'block', lambda *args: calls.append(args))
    draws = torch.Generator().manual_seed(0)
    for step in range(30):
        h, w = torch.randint(64, 300, (2,), generator=draws).tolist() if step else (64, 64)
        sum(f.square().mean() for f in model(torch.rand(2, 3, h, w))).backward()
    assert not calls
    assert 0 < len(compilations) <= 8


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize('autocast', [None, torch.bfloat16])
def test_compiled_blocks_give_the_same(compilations, autocast):
    own, compiled, exact = (randomise(ConvNeXt(SMALL, compile=compile)) for compile in (False, True, False))
    x, found = images(2, 3, 64, 96), []
    for model in (own, compiled, exact.double()):
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast is not None and model is not exact):
            features = model(x.to(next(model.parameters()).dtype))
        sum(f.square().sum() for f in features).backward()
        found.append([*features, *(p.grad for p in model.parameters())])
    off = [[torch.linalg.vector_norm(a - e).item() / torch.linalg.vector_norm(e).item() for a, e in zip(some, found[2])]
           for some in found[:2]]
    assert max(off[1]) < (2 * max(off[0]) if autocast else 1e-5)
    assert compilations


@needs_compiler
def test_models_can_be_compiled_whole():
    plain = randomise(ConvNeXt(SMALL))
    whole, x = torch.compile(randomise(ConvNeXt(SMALL)), backend='aot_eager', fullgraph=True), images(2, 3, 64, 96)
    for model in (plain, whole):
        sum(f.square().sum() for f in model(x)).backward()
    for (name, a), b in zip(plain.named_parameters(), whole.parameters()):
        assert relative_difference(b.grad, a.grad) < 1e-4, name


@pytest.mark.skipif(TORCH >= COMPILE_SINCE, reason='this torch compiles')
def test_an_old_torch_is_refused_compilation():
    with pytest.raises(ValueError, match='compile must be False before torch 2.6, got True with torch'):
        ConvNeXt(SMALL, compile=True)


@needs_compiler
def test_the_limit_of_recompilations_is_an_error(compilations, monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, 'recompile_limit', 2)
    model = ConvNeXt(SMALL, compile=True)
    model(torch.rand(1, 3, 64, 64))
    with pytest.raises(Exception, match='fullgraph'):
        model.double()(torch.rand(1, 3, 64, 64).double())
