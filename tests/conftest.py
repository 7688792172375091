"""What several test modules need."""

import pytest


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
