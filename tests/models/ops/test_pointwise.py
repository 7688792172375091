"""LayerNorm and the block's second half on kernels of their own: in Triton's interpreter, and on a GPU."""
import pytest
import torch
import torch.nn.functional as F

from convnext_mm import ConvNeXt
from convnext_mm.models.ops.block import layer_norm, plain_layer_norm, residual_mlp
from convnext_mm.models.ops.tensors import MLPTensors
from tests.helpers.kernels import needs_gpu, needs_triton, run_kernels
from tests.helpers.models import relative_difference

TOLERANCES = {'bfloat16': 2e-2, 'float16': 3e-3}


@pytest.fixture(scope='module')
def interpreted():
    return run_kernels('pointwise_interpreted')


@needs_triton
@pytest.mark.parametrize('case', [
    *(f'model, {name}' for name in ('plain', 'with_cp', 'GRN', 'stride', 'layout')),
    *(f'mlp, {name}' for name in (
        'float32', 'no gamma', 'no scale', 'bfloat16', 'float16', 'float16, no gamma', 'weights frozen', 'all frozen',
        'second weight and gamma frozen', 'float16, weights frozen')),
    'norm', 'norm, channels first', 'norm, bfloat16', 'empty'])
def test_kernels_in_the_interpreter(interpreted, case):
    tolerance = next((tolerance for name, tolerance in TOLERANCES.items() if name in case), 1e-5)
    assert interpreted[case] == pytest.approx(dict.fromkeys(interpreted[case], 0), abs=tolerance)


@needs_gpu
@pytest.mark.parametrize('channels_first', [False, True])
@pytest.mark.parametrize('shape', [(2, 25, 40, 96), (3, 7, 7, 768), (1, 1, 300, 33), (2, 13, 1, 2048)], ids=str)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)],
                         ids=str)
def test_layer_norm_on_a_gpu(shape, channels_first, dtype, tolerance):
    x, grad = torch.randn(2, *shape, device='cuda').to(dtype)
    weight, bias = torch.randn(2, shape[-1], device='cuda')
    found, expected = [], []
    for results, function, kind in ((found, layer_norm, None),
                                    (expected, plain_layer_norm, torch.float64)):
        tensors = [t.detach().to(kind or t.dtype).requires_grad_() for t in (x, weight, bias)]
        y = function(*tensors, 1e-6, channels_first)
        assert y.permute(0, 3, 1, 2).is_contiguous() or not channels_first
        results += [y, *torch.autograd.grad(y, tensors, grad.to(y.dtype))]
    assert all(relative_difference(a.double(), b) < tolerance for a, b in zip(found, expected, strict=True))


@needs_gpu
@pytest.mark.parametrize('scale', [False, True])
@pytest.mark.parametrize('gamma', [None, 1e-6, 1.])
@pytest.mark.parametrize('channels', [40, 96, 768])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_second_half_on_a_gpu(channels, gamma, scale, dtype):
    """No further from float64 than the plain formula under autocast, gradients of a scaled loss included."""
    def random(*shape):
        return torch.randn(shape, device='cuda')
    c = channels
    arguments = [random(3, 21, 17, c), random(3, 21, 17, c).to(dtype),
                 torch.tensor([0., 1.5, 1.5], device='cuda').view(3, 1, 1, 1) if scale else None, random(c), random(c),
                 random(4 * c, c) * .1, random(4 * c), random(c, 4 * c) * .1, random(c),
                 None if gamma is None else gamma * (1 + torch.rand(c, device='cuda'))]
    # As a scaled loss has it, where gamma leaves room for that.
    grad = random(3, 21, 17, c) * (1024 if gamma == 1e-6 else 1)

    def plain(x, y, scale, norm_weight, norm_bias, weight1, bias1, weight2, bias2, gamma, eps):
        y = F.linear(F.gelu(F.linear(F.layer_norm(y, (c,), norm_weight, norm_bias, eps), weight1, bias1)), weight2,
                     bias2)
        return x + y * (1 if gamma is None else gamma) * (1 if scale is None else scale)

    def run(function, kind):
        tensors = [t if t is None else t.detach().to(kind or t.dtype).requires_grad_() for t in arguments]
        # A layer_norm of torch's does not mix precisions outside of autocast.
        with torch.autocast('cuda', dtype, enabled=dtype != torch.float32 and kind is None):
            result = function(*tensors, 1e-6)
            with torch.no_grad():
                alone = function(*tensors, 1e-6)
        learning = [t for i, t in enumerate(tensors) if t is not None and i != 2]
        return [result, alone, *torch.autograd.grad(result, learning, grad.to(result.dtype))]

    def own_code(x, y, scale, *others):
        *tensors, eps = others
        return residual_mlp(x, y, scale, MLPTensors(*tensors), eps)
    exact = run(plain, torch.float64)
    own, reference = (run(function, None) for function in (own_code, plain))
    for i, (a, b, e) in enumerate(zip(own, reference, exact, strict=True)):
        off = [((t.double() - e).norm() / (e.norm() + 1e-30)).item() for t in (a, b)]
        assert off[0] < 1.2 * off[1] + 1e-5, (i, off)


@needs_gpu
def test_nothing_of_torchs_elementwise_kernels_is_left_in_a_block():
    model = ConvNeXt('atto').cuda().eval()
    x = torch.randn(2, 3, 64, 64, device='cuda')
    with torch.no_grad(), torch.autocast('cuda', torch.bfloat16):
        model(x)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            model.stages[0][0](torch.randn(2, 40, 16, 16, device='cuda').contiguous(memory_format=torch.channels_last))
    names = {event.key for event in profile.key_averages()}
    assert 'aten::mm' in names
    assert not names & {'aten::native_layer_norm', 'aten::gelu', 'aten::add', 'aten::addcmul', 'aten::mul'}
