"""Freed memory: kept where nothing else is said, and never asked of another C library."""
import ctypes
import os
import subprocess
import sys

import pytest

from convnext_mm.utils import freed_memory
from tests.helpers.paths import ROOT

#: Prints how often the operating system had to hand out a page while a large result was made five times.
COUNT = """
import resource, numpy
from convnext_mm.utils.freed_memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
numpy.ones(2 ** 26, 'uint8')
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    numpy.ones(2 ** 26, 'uint8')
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def has_glibc():
    return 'CS_GNU_LIBC_VERSION' in getattr(os, 'confstr_names', ())


@pytest.mark.skipif(not has_glibc(), reason='the C library is not glibc')
@pytest.mark.parametrize(('keep', 'settings', 'kept'), [
    (False, {}, False), (True, {}, True),
    (True, {'MALLOC_TRIM_THRESHOLD_': '65536'}, False), (True, {'MALLOC_ARENA_MAX': '1'}, True),
    (True, {'GLIBC_TUNABLES': 'glibc.malloc.trim_threshold=65536'}, False)])
def test_large_results_take_the_same_memory(keep, settings, kept):
    # Numpy's arrays would else be of huge pages, which have few faults in any case.
    settings = {'NUMPY_MADVISE_HUGEPAGE': '0', **settings}
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(('MALLOC_', 'GLIBC_'))} | settings
    faults = int(subprocess.run([sys.executable, '-c', COUNT.format(keep=keep)], cwd=ROOT, env=environment, check=True,
                                capture_output=True, text=True).stdout)
    assert faults < 1000 if kept else faults > 50000


@pytest.mark.parametrize(('names', 'asked'), [({'CS_GNU_LIBC_VERSION': 2}, True), ({'CS_PATH': 0}, False)])
def test_other_libraries_are_left_alone(names, asked, monkeypatch):
    class Library:
        def mallopt(self, parameter, value):
            calls.append((parameter, value))
            return 1
    calls = []
    for name in [name for name in os.environ if name.startswith(('MALLOC_', 'GLIBC_'))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, 'confstr_names', names)
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: Library())
    freed_memory.keep_freed_memory.cache_clear()
    freed_memory.keep_freed_memory()
    freed_memory.keep_freed_memory.cache_clear()
    assert calls == ([(-4, 0), (-1, -1)] if asked else [])
