"""The kernels for GPUs that are not here: whether they compile, and fit."""
import pytest

from tests.helpers.kernels import needs_triton, run_kernels

#: Bytes of shared memory that a program can take, by the GPU's compute capability (CUDA C++ programming guide).
LIMITS = {'80': 166912, '86': 101376, '89': 101376, '90': 232448, '100': 232448, '120': 101376}


@needs_triton
@pytest.mark.long
def test_kernels_compile_and_fit(size, tmp_path, monkeypatch):
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    taken = run_kernels('kernels_compiled', size('768', '96,768'), size('86', ','.join(LIMITS)),
                        size('bfloat16', 'float32,bfloat16,float16'), interpret='0')
    for capability, largest in taken.items():
        assert {'convolve', 'weigh', 'normalize', 'normalize_backward', 'add_branch', 'linear_gelu'} <= set(largest)
        assert max(largest.values()) <= LIMITS[capability]
