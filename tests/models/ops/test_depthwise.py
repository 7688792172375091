"""The depthwise convolution's own kernels: in Triton's interpreter, and on a GPU where there is one."""
import warnings

import pytest
import torch
import torch.nn.functional as F

from convnext_mm import ConvNeXt
from convnext_mm.models.ops import block
from tests.helpers.kernels import TORCH, needs_gpu, needs_triton, run_kernels
from tests.helpers.models import relative_difference


@pytest.fixture(scope='module')
def interpreted():
    return run_kernels('depthwise_interpreted')


@needs_triton
@pytest.mark.parametrize(('case', 'tolerance'), [
    ('one', 1e-6), ('cut', 1e-6), ('parts', 1e-6), ('many', 1e-6), ('low', 1e-6), ('bfloat16', 1e-2), ('block', 1e-6)])
def test_kernels_in_the_interpreter(interpreted, case, tolerance):
    assert interpreted[case] == pytest.approx(dict.fromkeys(interpreted[case], 0), abs=tolerance)


def test_nobody_but_a_gpu_has_kernels():
    assert not block.has_kernels(torch.device('cpu'))
    assert not block.has_kernels(torch.device('meta'))


@pytest.mark.skipif(TORCH < block._TORCH_SINCE, reason='an old torch is not even tried')
def test_where_triton_fails_the_library_takes_over(monkeypatch):
    """One warning, and no more tries."""
    block._try_kernels.cache_clear()
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    monkeypatch.setattr('convnext_mm.models.ops.depthwise.depthwise_conv', None)
    device = torch.device('cuda', 0)
    with pytest.warns(UserWarning, match='kernels of torch alone, slower: Triton does not run on cuda:0'):
        assert not block.has_kernels(device)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert not block.has_kernels(device)
    block._try_kernels.cache_clear()


GPU_SHAPES = [(2, 96, 200, 320), (4, 40, 56, 56), (3, 192, 25, 40), (8, 768, 7, 7), (1, 33, 1, 300), (2, 320, 13, 1)]


@needs_gpu
@pytest.mark.parametrize('shape', GPU_SHAPES, ids=str)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)],
                         ids=str)
def test_on_a_gpu(shape, dtype, tolerance):
    generator = torch.Generator('cuda').manual_seed(0)

    def random(*shape, dtype=torch.float32):
        return torch.randn(shape, generator=generator, device='cuda').to(dtype)
    x, weight, bias = random(*shape, dtype=dtype), random(shape[1], 1, 7, 7), random(shape[1])
    x = x.contiguous(memory_format=torch.channels_last)
    grad = random(*shape, dtype=dtype)
    found, expected = [], []
    for results, convolve, kind in ((found, block._conv, None), (expected, None, torch.float64)):
        tensors = [t.detach().to(kind or t.dtype).requires_grad_() for t in (x, weight, bias)]
        y = convolve(*tensors) if convolve else F.conv2d(*tensors, padding=3, groups=shape[1])
        results += [y, *torch.autograd.grad(y, tensors, grad.to(y.dtype))]
    assert all(relative_difference(a.double(), b) < tolerance for a, b in zip(found, expected, strict=True))


@needs_gpu
@pytest.mark.parametrize('compile', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_blocks_on_a_gpu(compile, dtype):
    """No further from float64 than with cuDNN, and within rounding of it."""
    model = ConvNeXt(dict(depths=(1, 2, 1, 1), channels=(32, 64, 96, 40)), layer_scale_init_value=1., compile=compile)
    own = model.cuda()
    library, exact = (ConvNeXt(dict(depths=(1, 2, 1, 1), channels=(32, 64, 96, 40)), layer_scale_init_value=1.)
                      for _ in range(2))
    for other in (library, exact):
        other.load_state_dict(own.state_dict())
    library.cuda(), exact.cuda().double()
    x = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(0)).cuda()

    def run(model, x):
        with torch.autocast('cuda', dtype, enabled=dtype != torch.float32 and x.dtype != torch.float64):
            outputs = model(x)
        sum(output.double().square().mean() for output in outputs).backward()
        return [*(o.detach().double() for o in outputs), *(p.grad.double() for p in model.parameters())]

    def error(found, expected):
        return max(((a - b).norm() / b.norm()).item() for a, b in zip(found, expected) if b.norm() > 1e-6)
    expected, found = run(exact, x.double()), run(own, x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block, '_try_kernels', lambda device: False)
        reference = error(run(library, x), expected)
    assert error(found, expected) < 1.5 * reference + 1e-5
