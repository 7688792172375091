"""The wheel holds every module and data file of the package, and nothing else."""
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.helpers.architecture import PACKAGE
from tests.helpers.paths import ROOT

pytest.importorskip('wheel', reason='older versions of setuptools need the package wheel to make one')


def test_the_wheel_holds_the_tree(tmp_path):
    source = tmp_path / 'source'
    source.mkdir()
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / PACKAGE, source / PACKAGE, ignore=shutil.ignore_patterns('__pycache__'))
    # A folder beside the package, as tests and benchmarks are, stays out of the wheel.
    shutil.copytree(ROOT / 'tests' / 'utils', source / 'tests' / 'utils', ignore=shutil.ignore_patterns('__pycache__'))
    command = [sys.executable, '-c', 'from setuptools import build_meta; build_meta.build_wheel("dist")']
    result = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    wheel, = (source / 'dist').glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if '.dist-info/' not in name}
    assert found == {path.relative_to(source).as_posix() for path in (source / PACKAGE).rglob('*') if path.is_file()}
