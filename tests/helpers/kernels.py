"""What the tests of the kernels need: whether they run here, and a way to run them in another process."""
import json
import os
import subprocess
import sys

import pytest
import torch

from convnext_mm.models.ops import block
from tests.helpers.paths import ROOT

TORCH = tuple(map(int, torch.__version__.split('.')[:2]))

needs_triton = pytest.mark.skipif(TORCH < block._TORCH_SINCE,
                                  reason=f'the kernels need the Triton of torch {block._TORCH_SINCE}')
needs_gpu = pytest.mark.skipif(not (torch.cuda.is_available() and block.has_kernels(torch.device('cuda', 0))),
                               reason='no GPU that runs the kernels')


def run_kernels(name, *arguments, interpret='1'):
    """Return what a module beside this one prints as JSON, with Triton's interpreter for a GPU unless that is '0'."""
    pytest.importorskip('triton', reason='no Triton is installed')
    result = subprocess.run([sys.executable, '-m', f'tests.helpers.{name}', *arguments], capture_output=True,
                            text=True, cwd=ROOT, env=os.environ | {'TRITON_INTERPRET': interpret})
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)
