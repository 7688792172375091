"""Settings that several tests of a block's code run under."""
import pytest
import torch

from convnext_mm.models.ops import cpu


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Cut images this small into several pieces, the last of which is shorter; each is long enough for any library."""
    monkeypatch.setattr(cpu, 'LEAST_ROWS', 1)
    monkeypatch.setattr('convnext_mm.models.ops.pointwise_cpu.PIECE', 50)


@pytest.fixture(params=['AVX512', 'AVX512, not Intel', 'AVX2', 'AVX2, not Intel', 'torch'])
def products(request, monkeypatch):
    """What multiplies matrices: oneDNN, by what it is chosen by on four kinds of processors, or torch's library."""
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: request.param.partition(',')[0])
    monkeypatch.setattr(cpu, '_is_intel', lambda: 'not Intel' not in request.param)
    with torch.backends.mkldnn.flags(enabled=request.param != 'torch'):
        yield request.param
