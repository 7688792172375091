"""The wheel holds every module and data file of the package, the configs and the tools, by way of the sdist too."""
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes

import pytest

from tests.helpers.architecture import PACKAGE
from tests.helpers.paths import ROOT

pytest.importorskip('wheel', reason='older versions of setuptools need the package wheel to make one')

#: Beside the package, what a clone has and what is built needs.
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE')
FOLDERS = ('configs', 'tools')


def build(source, kind):
    """Build an archive (``sdist`` or ``wheel``) of a folder, and return its path."""
    command = [sys.executable, '-c', f'from setuptools import build_meta; build_meta.build_{kind}("dist")']
    result = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    built, = (source / 'dist').glob('*.tar.gz' if kind == 'sdist' else '*.whl')
    return built


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the files from which archives are built."""
    folder = tmp_path_factory.mktemp('source')
    ignored = shutil.ignore_patterns('__pycache__')
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for name in (PACKAGE, *FOLDERS):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / 'model-index.yml').write_text('Models: []\n')
    # A folder beside the package, as tests and benchmarks are, stays out of the wheel.
    shutil.copytree(ROOT / 'tests' / 'utils', folder / 'tests' / 'utils', ignore=ignored)
    return folder


@pytest.fixture(scope='module')
def wheel(source):
    # What an earlier build left stays out.
    stale = source / 'build' / 'lib' / PACKAGE / '.mim' / 'configs' / 'gone.py'
    stale.parent.mkdir(parents=True)
    stale.write_text('')
    return build(source, 'wheel')


def content(wheel):
    """Return the names of what a wheel installs."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if '.dist-info/' not in name}


def read_metadata(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(entry for entry in archive.namelist() if entry.endswith(f'.dist-info/{name}')))


def files_below(folder, root):
    return {path.relative_to(root).as_posix() for path in folder.rglob('*') if path.is_file()}


def test_the_wheel_holds_the_tree(source, wheel):
    expected = files_below(source / PACKAGE, source) | {f'{PACKAGE}/.mim/model-index.yml'}
    for folder in FOLDERS:
        expected |= {f'{PACKAGE}/.mim/{name}' for name in files_below(source / folder, source)}
    assert content(wheel) == expected - {f'{PACKAGE}/.mim/tools/setup_env.py'}


def test_the_sdist_makes_the_same_wheel(source, wheel, tmp_path):
    with tarfile.open(build(source, 'sdist')) as archive:
        archive.extractall(tmp_path, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
    unpacked, = tmp_path.iterdir()
    assert content(build(unpacked, 'wheel')) == content(wheel)


def test_the_metadata(wheel):
    metadata = message_from_bytes(read_metadata(wheel, 'METADATA'))
    assert metadata['Author'] == f'{PACKAGE} contributors'
    assert metadata['Keywords']
    assert metadata.get_all('Classifier')
    base = [entry for entry in metadata.get_all('Requires-Dist') if 'extra ==' not in entry]
    assert base == [], 'a requirement without an extra may exchange a package of another toolbox'
    assert b'convnext-mm = ' in read_metadata(wheel, 'entry_points.txt')


def test_the_long_description_has_no_link_that_leads_nowhere(wheel):
    text = message_from_bytes(read_metadata(wheel, 'METADATA')).get_payload()
    assert '# convnext_mm' in text
    assert '[install]' in (ROOT / 'README.md').read_text()
    assert [target for target in re.findall(r'\]\(([^)]*)\)', text) if not target.startswith('https://')] == []
