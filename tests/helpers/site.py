"""A copy of the documentation site, built in a folder."""
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

ZENSICAL = ROOT / '.venv-docs/bin/zensical'
needs_zensical = pytest.mark.skipif(not ZENSICAL.exists(), reason='the site needs .venv-docs, which `make docs` makes')
SOURCES = ('zensical.toml', 'CHANGELOG.md', 'CONTRIBUTING.md')


def copy_sources(folder: Path) -> None:
    """Copy what the site is made of."""
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / 'docs', folder / 'docs', symlinks=True)


def build(folder: Path) -> subprocess.CompletedProcess:
    """Build the site of a folder into its ``build/docs``, as ``make docs`` does."""
    return subprocess.run([ZENSICAL, 'build', '--strict'], cwd=folder, capture_output=True, text=True)
