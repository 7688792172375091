"""What several test modules need."""
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


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
