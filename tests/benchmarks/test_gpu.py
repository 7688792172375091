"""benchmarks/gpu.sh: what it runs, that no step stops another, and on a CPU all of it in its smallest form."""
import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

SCRIPT = ROOT / 'benchmarks/gpu.sh'
STEPS = ['tests', 'depthwise', 'throughput', 'backbone']


def run(*arguments, **environment):
    return subprocess.run(['bash', SCRIPT, *map(str, arguments)], capture_output=True, text=True, cwd='/',
                          env=os.environ | dict(PYTHON=sys.executable) | environment)


@pytest.mark.parametrize('failing', [None, 'depthwise'])
@pytest.mark.parametrize('dry', [True, False])
def test_a_step_that_fails_stops_no_other(dry, failing, tmp_path):
    """With a program in Python's place that prints what it was asked for."""
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/bash\necho "ran $*"\n[[ "$*" != *benchmarks/{failing}.py* ]]\n')
    python.chmod(0o755)
    result = run(*['--dry'] * dry, tmp_path / 'out', PYTHON=str(python))
    assert result.returncode == (1 if failing else 0)
    assert sorted(path.stem for path in (tmp_path / 'out').glob('*.txt')) == sorted(f'gpu-{name}' for name in STEPS)
    tables = result.stdout.partition('===== tests')[2]
    assert tables.count('ran ') == len(STEPS)
    assert result.stdout.endswith(f'failed: {failing} (exit code 1)\n' if failing else tables)
    limits = [int(line.split('at most ')[1].split()[0]) for line in result.stdout.splitlines() if ', at most' in line]
    assert len(limits) == len(STEPS)
    assert dry or sum(limits) <= 9 * 60


def test_without_a_gpu(tmp_path):
    result = run(tmp_path / 'out', CUDA_VISIBLE_DEVICES='')
    assert (result.returncode, result.stderr.count('\n')) == (2, 1)
    assert 'torch finds no GPU here; --dry runs without one' in result.stderr


def test_a_step_that_is_not_there(tmp_path):
    result = run('--dry', tmp_path, 'tests', 'other')
    assert (result.returncode, result.stdout) == (2, '')
    assert 'there is no step other, expected some of tests depthwise throughput backbone' in result.stderr


@pytest.mark.long
@pytest.mark.slow
def test_dry(size, tmp_path):
    for package in ('timm', 'triton', 'mmdet'):
        pytest.importorskip(package)
    steps = size(['depthwise'], STEPS)
    result = run('--dry', tmp_path / 'out', *steps, CUDA_VISIBLE_DEVICES='')
    assert result.returncode == 0, result.stdout[-3000:]
    written = [path.stem.rpartition('-threads-')[2].split('-')[0] for path in (tmp_path / 'out').glob('*.json')]
    assert sorted(written) == sorted(set(steps) - {'tests'})
