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


@pytest.mark.parametrize('summed', [1, 100, 10 ** 6])
def test_sums_in_parts(summed, monkeypatch):
    monkeypatch.setattr(cpu, 'SUMMED', summed)
    rows = images(50, 16).bfloat16()
    torch.testing.assert_close(cpu.sum_rows(rows, torch.float32), rows.double().sum(0).float())
    assert not cpu.sum_rows(rows[:0], torch.float32).any()
