"""Products and sums on a CPU."""
import pytest
import torch

from convnext_mm.models.ops import cpu
from tests.helpers.blocks import images
from tests.helpers.models import relative_difference


def test_gelu_is_the_exact_one(products):
    x, weight, bias = images(50, 16), images(24, 16), images(24)
    found = cpu.linear(x, weight, bias, None, gelu=True)
    exact = torch.nn.functional.gelu(torch.nn.functional.linear(x.double(), weight.double(), bias.double()))
    assert relative_difference(found, exact) < 1e-6


@pytest.mark.parametrize(('is_intel', 'dtype', 'bias', 'onednn'), [
    (True, torch.float32, False, False), (False, torch.float32, False, True), (True, torch.float32, True, True),
    (False, torch.float32, True, True), (False, torch.float64, True, False)])
def test_products_without_a_bias_are_of_mkl_on_its_makers_processors(is_intel, dtype, bias, onednn, monkeypatch):
    monkeypatch.setattr(cpu, '_is_intel', lambda: is_intel)
    x, weight = images(4, 8).to(dtype), images(6, 8).to(dtype)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        cpu.linear(x, weight, images(6).to(dtype) if bias else None, None)
    assert any('mkldnn' in event.key for event in profile.key_averages()) == onednn


@pytest.mark.parametrize('summed', [1, 100, 10 ** 6])
def test_sums_in_parts(summed, monkeypatch):
    monkeypatch.setattr(cpu, 'SUMMED', summed)
    rows = images(50, 16).bfloat16()
    torch.testing.assert_close(cpu.sum_rows(rows, torch.float32), rows.double().sum(0).float())
    assert not cpu.sum_rows(rows[:0], torch.float32).any()


@pytest.mark.parametrize('rows', [1, 50, 64])
@pytest.mark.parametrize(('dtype', 'tolerance'), [
    (torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)], ids=str)
def test_weight_gradient(dtype, tolerance, rows, products):
    """Of rows that are pixels of one image, of 2 and of 32, summed over two pieces."""
    grads, xs = images(2, rows, 24).to(dtype), images(2, rows, 16).to(dtype)
    total = torch.full((24, 16), torch.nan, dtype=torch.promote_types(dtype, torch.float32))
    for i, (grad, x) in enumerate(zip(grads, xs)):
        cpu.add_weight_gradient(total, grad, x, i == 0)
    exact = sum(grad.double().t() @ x.double() for grad, x in zip(grads, xs))
    assert relative_difference(total, exact) < tolerance


@pytest.mark.parametrize(('maker', 'capability', 'rows', 'called'), [
    ('vendor_id : AuthenticAMD', 'AVX512', 5, True), ('AMD64 Family 26 Model 2, AuthenticAMD', 'AVX512', 5, True),
    ('vendor_id : AuthenticAMD', 'AVX512', 4, False), ('vendor_id : AuthenticAMD', 'AVX2', 5, False),
    ('vendor_id : GenuineIntel', 'AVX512', 5, False), ('', 'AVX512', 5, False)])
def test_weight_gradients_are_of_onednn_where_mkl_is_narrow(maker, capability, rows, called, monkeypatch):
    monkeypatch.setattr(cpu, 'LEAST_ROWS', 5)
    calls = []
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    monkeypatch.setattr(cpu, '_maker', lambda: maker)
    monkeypatch.setattr(cpu, '_onednn_weight_gradient', lambda grad, x: calls.append(1) or grad.t() @ x)
    cpu._is_intel.cache_clear()
    cpu.add_weight_gradient(torch.empty(3, 4), images(rows, 3), images(rows, 4), is_first=True)
    cpu._is_intel.cache_clear()
    assert bool(calls) == called
