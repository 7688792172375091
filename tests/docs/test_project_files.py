"""Changelog, citation, workflow and Dockerfile say what holds today; the trackers that a page names exist."""
import os
import re
import subprocess

import pytest
import yaml

from convnext_mm.version import __version__
from tests.helpers.paths import ROOT

WORKFLOWS = sorted((ROOT / '.github/workflows').glob('*.yml'))


def test_changelog():
    text = (ROOT / 'CHANGELOG.md').read_text()
    versions = re.findall(r'^## \[(.+?)\](?: - \d{4}-\d\d-\d\d)?$', text, re.M)
    assert versions == re.findall(r'^## (?:\[)?([^\]\n]+)', text, re.M), 'a heading of another form'
    assert __version__ in versions or f'This will be {__version__}' in text.split('\n## ')[1]
    parts = {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'}
    assert set(re.findall(r'^### (.+)$', text, re.M)) <= parts
    for tool in re.findall(r'`(tools/[\w.]+)`', text):
        assert (ROOT / tool).is_file(), tool
    for target in re.findall(r'`make ([\w-]+)', text):
        assert f'\n{target}:' in (ROOT / 'Makefile').read_text(), target


def test_citation():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['cff-version'] == '1.2.0'
    assert citation['version'] == __version__
    assert citation['authors'] == [{'name': 'convnext_mm contributors'}]
    paper, readme = citation['preferred-citation'], (ROOT / 'README.md').read_text()
    authors = ' and '.join(f'{each["family-names"]}, {each["given-names"]}' for each in paper['authors'])
    assert f'author    = {{{authors}}}' in readme
    assert f'title     = {{{paper["title"]}}}' in readme
    assert f'year      = {{{paper["year"]}}}' in readme


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_workflow(path):
    # YAML 1.1 reads the key `on` as true.
    workflow = yaml.safe_load(path.read_text())
    assert True in workflow
    steps = [step for job in workflow['jobs'].values() for step in job['steps']]
    assert '.ci/run' in [step.get('run') for step in steps]
    assert os.access(ROOT / '.ci/run', os.X_OK)
    for target in re.findall(r'make ([\w-]+)', ' '.join(step.get('run', '') for step in steps)):
        assert f'\n{target}:' in (ROOT / 'Makefile').read_text(), target
    # The folder that the set-up keeps mmcv in.
    setup = (ROOT / 'tools/setup_env.py').read_text()
    assert "Path.home() / '.cache') / 'convnext_mm' / 'build'" in setup
    assert {step['with']['path'] for step in steps if 'cache' in step.get('uses', '')} == {'~/.cache/convnext_mm/build'}


def test_dockerfile_has_the_commands_of_the_page():
    steps = re.findall(r'^RUN (pip .*)$', (ROOT / 'Dockerfile').read_text(), re.M)
    page = (ROOT / 'docs/install.md').read_text()
    assert len(steps) == 2
    assert '```bash\n' + '\n'.join(steps) + '\n```' in page


def test_the_image_gets_the_files_of_the_repository():
    ignored = (ROOT / '.dockerignore').read_text().split()
    tracked = subprocess.run(['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip('this is no clone')
    tops = {name.split('/')[0] for name in tracked.stdout.splitlines()}
    assert not tops & set(ignored)


@pytest.mark.parametrize('backend', re.findall(r'`(\w+VisBackend)` \|', (ROOT / 'docs/report.md').read_text()))
def test_trackers_exist(backend):
    registry = pytest.importorskip('mmengine.registry', reason='the backends are of mmengine')
    import mmengine.visualization  # noqa: F401
    assert registry.VISBACKENDS.get(backend) is not None


def test_all_trackers_are_named():
    page = (ROOT / 'docs/report.md').read_text()
    assert re.findall(r'`(\w+)VisBackend` \|', page) == ['Wandb', 'MLflow', 'ClearML', 'DVCLive', 'Aim', 'Neptune']
