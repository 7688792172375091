"""What several test modules need."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convnext_mm.models.ops import block as block_ops

ROOT = Path(__file__).resolve().parents[1]
TORCH = tuple(map(int, torch.__version__.split('.')[:2]))

needs_triton = pytest.mark.skipif(TORCH < block_ops._TORCH_SINCE,
                                  reason=f'the kernels need the Triton of torch {block_ops._TORCH_SINCE}')
needs_gpu = pytest.mark.skipif(not (torch.cuda.is_available() and block_ops.has_kernels(torch.device('cuda', 0))),
                               reason='no GPU that runs the kernels')


def pytest_addoption(parser):
    parser.addoption('--long', action='store_true', help='run the tests marked long whole (`make check-long`)')


def pytest_terminal_summary(terminalreporter):
    """Show what tests tell by ``record_property('tally', text)``, from other processes too."""
    for report in terminalreporter.getreports('passed'):
        for name, text in report.user_properties:
            if name == 'tally' and report.when == 'call':
                terminalreporter.write_line(f'{report.nodeid}: {text}')


@pytest.fixture
def size(request):
    """``size(short, whole)``: how much a test marked long does, in `make test` and in `make check-long`."""
    return lambda short, whole: whole if request.config.getoption('--long') else short


def randomise(model, seed=0):
    """Give every parameter a random value: at the initial layer scale a comparison of features proves nothing.

    Weights keep the paper's deviation, so that 27 blocks neither explode nor vanish.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and 'grn' not in name:
                parameter.normal_(0, .02, generator=generator)
            else:
                parameter.uniform_(.2, .8, generator=generator)
                if name.endswith(('bias', 'beta')):
                    parameter.sub_(.5)
    return model


def relative_difference(a, b):
    """Largest difference, as a share of the largest feature of ``b``."""
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


def run_kernels(name, *arguments, interpret='1'):
    """What a script beside this file prints as JSON, with Triton's interpreter for a GPU unless that is '0'."""
    pytest.importorskip('triton', reason='no Triton is installed')
    result = subprocess.run([sys.executable, Path(__file__).with_name(name), *arguments], capture_output=True,
                            text=True, env=os.environ | {'TRITON_INTERPRET': interpret})
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)
