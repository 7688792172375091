"""Layers against plain formulas."""
import pytest
import torch
import torch.nn.functional as F

from convnext_mm.models.layers import GRN, ConvNeXtBlock, DropPath, LayerNorm2d
from tests.helpers.models import randomise, relative_difference


def test_layer_norm_formula():
    norm, x = randomise(LayerNorm2d(6)).double(), torch.randn(2, 6, 5, 4, dtype=torch.float64) * 3 + 1
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (var + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert relative_difference(norm(x), expected) < 1e-12
    assert isinstance(norm, torch.nn.LayerNorm)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_layer_norm_statistics_do_not_overflow(dtype):
    """Squares of these activations exceed float16's largest number, and their sum bfloat16's precision."""
    norm = randomise(LayerNorm2d(64))
    x = (torch.randn(2, 64, 3, 3) * 2000 + 8000).to(dtype)
    expected = norm(x.float())
    try:
        halved = norm.to(dtype)(x)
    except RuntimeError as error:
        pytest.skip(f'torch {torch.__version__} has no LayerNorm in {dtype} on the CPU: {error}')
    assert halved.isfinite().all()
    assert relative_difference(halved.float(), expected) < 2 * torch.finfo(dtype).eps


def test_layer_norm_under_autocast():
    norm = randomise(LayerNorm2d(64))
    x = torch.randn(2, 64, 3, 3) * 1e4 + 6e4
    with torch.autocast('cpu', torch.bfloat16):
        result = norm(x)
    assert relative_difference(result.float(), norm(x)) < 2 * torch.finfo(torch.bfloat16).eps


def test_drop_path_keeps_the_expectation_and_drops_whole_samples():
    torch.manual_seed(0)
    drop = DropPath(.25)
    y = drop(torch.ones(20000, 2, 1, 1))
    values = y.unique().tolist()
    assert values == pytest.approx([0, 1 / .75])
    assert (y[:, 0] == y[:, 1]).all()
    assert y.mean().item() == pytest.approx(1, abs=.02)
    assert (drop.eval()(torch.ones(3, 1)) == 1).all()


def test_grn_formula():
    grn, x = randomise(GRN(8)).double(), torch.randn(2, 5, 4, 8, dtype=torch.float64)
    response = x.pow(2).sum((1, 2)).sqrt()
    scale = response / (response.mean(1, keepdim=True) + 1e-6)
    expected = grn.gamma * x * scale[:, None, None] + grn.beta + x
    assert relative_difference(grn(x), expected) < 1e-12
    assert GRN(8)(x.float()).equal(x.float()), 'an untrained GRN is the identity'


def test_grn_norm_does_not_overflow_in_half_precision():
    """The sum of these squares exceeds float16's largest number."""
    x = torch.full((1, 64, 64, 4), 300.)
    grn = randomise(GRN(4))
    half = grn.to(torch.float16)(x.half())
    assert relative_difference(half.float(), grn.float()(x)) < 4 * torch.finfo(torch.float16).eps


@pytest.mark.parametrize('use_grn', [False, True])
@pytest.mark.parametrize('scale', [0, 1e-6, 1.])
def test_block_formula(use_grn, scale):
    block = randomise(ConvNeXtBlock(6, 0., scale, use_grn)).double()
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    y = F.conv2d(x, block.dwconv.weight, block.dwconv.bias, padding=3, groups=6)
    y = F.layer_norm(y.permute(0, 2, 3, 1), (6,), block.norm.weight, block.norm.bias, 1e-6)
    y = F.gelu(y @ block.pwconv1.weight.T + block.pwconv1.bias)
    y = block.grn(y) @ block.pwconv2.weight.T + block.pwconv2.bias
    assert (block.gamma is None) == (scale == 0)
    y = y if block.gamma is None else y * block.gamma
    assert relative_difference(block(x), x + y.permute(0, 3, 1, 2)) < 1e-12
