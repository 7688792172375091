"""What several test modules need."""
from functools import cache
from pathlib import Path

import pytest

from tests.helpers.instances import forget_instances

#: Files and folders whose tests take most of the time: `make test-fast` leaves them out.
SLOW = ('apis/test_classifier.py', 'apis/test_demo.py', 'apis/test_doctor.py', 'apis/test_predict.py',
        'apis/test_roadmap.py', 'apis/test_robustness.py', 'models/test_modernized_resnet.py',
        'apis/test_pure_python.py', 'benchmarks',
        'checkpoint/test_download.py', 'checkpoint/test_namings.py',
        'checkpoint/test_whole_model.py', 'configs', 'docs/test_docs.py', 'engine/hooks/test_interruption.py',
        'engine/hooks/test_prediction_pictures.py', 'engine/test_work_dir_lock.py',
        'engine/runner/test_strategies.py', 'engine/runner/test_strategies_downstream.py', 'engine/test_resume.py',
        'engine/test_settings.py', 'evaluation', 'export', 'fuzz', 'mm_tools', 'models/ops',
        'models/test_export.py', 'swap/test_swap_downstream.py',
        'swap/test_verify.py', 'swap/test_write.py', 'test_registry.py', 'visualization')
#: Those that take longest. Where workers share the tests, they come first: none is left alone with one at the end.
LONGEST = ('mm_tools', 'docs/test_docs.py', 'engine/test_resume.py', 'engine/runner/test_strategies.py',
           'engine/runner/test_strategies_downstream.py', 'apis/test_demo.py', 'export', 'fuzz', 'apis', 'swap')


@cache
def _is_in(path, places):
    return any(path.is_relative_to(Path(__file__).parent / place) for place in places)


def pytest_collection_modifyitems(config, items):
    """Mark the tests of ``SLOW``; in a worker, begin with those that take longest."""
    for item in items:
        if _is_in(item.path, SLOW):
            item.add_marker('slow')
    if hasattr(config, 'workerinput'):
        order = [*((place,) for place in LONGEST), SLOW, ('',)]
        items.sort(key=lambda item: next(rank for rank, places in enumerate(order) if _is_in(item.path, places)))


def pytest_addoption(parser):
    parser.addoption('--long', action='store_true', help='run the tests marked long whole (`make check-long`)')


def pytest_terminal_summary(terminalreporter):
    """Show what tests tell by ``record_property('tally', text)``, from other processes too."""
    for report in terminalreporter.getreports('passed'):
        for name, text in report.user_properties:
            if name == 'tally' and report.when == 'call':
                terminalreporter.write_line(f'{report.nodeid}: {text}')


@pytest.fixture(autouse=True, scope='module')
def _own_instances():
    """Begin each file without the default scope, the loggers and the visualizers of those before it."""
    forget_instances()


@pytest.fixture
def size(request):
    """``size(short, whole)``: how much a test marked long does, in `make test` and in `make check-long`."""
    return lambda short, whole: whole if request.config.getoption('--long') else short
