"""The block's own forward and backward passes against the plain formula, part by part."""
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers.blocks import images, make_block, needs_float16, run
from tests.helpers.models import relative_difference

HALF = [torch.bfloat16, pytest.param(torch.float16, marks=needs_float16)]
GAMMAS = [0, 1e-6, 1e-3, 1.]
CASES = [dict(gamma=gamma, **case) for gamma in GAMMAS for case in (
    {}, dict(drop_path_rate=.4), dict(dilation=2), dict(use_grn=True), dict(memory_format='contiguous_format'))]


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
