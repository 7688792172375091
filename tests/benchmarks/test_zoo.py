"""The survey of the zoos: what is done once, what is done again, and what the page counts."""
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.zoo import log, other, trial
from benchmarks.zoo.__main__ import main
from benchmarks.zoo.log import Log, digest, states
from benchmarks.zoo.page import coverage, format_page, write_page
from benchmarks.zoo.survey import run_tasks, survey
from benchmarks.zoo.trial import keep_relevant, swap_config
from convnext_mm.apis import cli
from convnext_mm.utils.errors import UserError
from tests.helpers.paths import ROOT

ROWS = [
    dict(config='mmdet/a/one.py', status='verified', reason=''),
    dict(config='mmdet/a/two.py', status='verified', reason=''),
    dict(config='mmdet/a/tta.py', status='refused', kind='no model in the config', reason='the config has no model'),
    dict(config='mmdet/b/one.py', status='kernel', reason='carafe'),
    dict(config='mmdet/b/two.py', status='refused', kind='structure', reason='it | depends'),
    dict(config='mmseg/c/one.py', status='refused', kind='network of its own', reason='a network'),
    dict(config='mmseg/c/two.py', status='package', reason='lap is not installed'),
    dict(config='mmseg/c/three.py', status='failed', reason='loss: RuntimeError'),
    dict(config='mmseg/c/four.py', status='unloadable', reason='FileNotFoundError'),
]


def test_page():
    lines = format_page(ROWS).splitlines()
    assert '| mmdet/a | 3 | 2 | 2 |  |  | 1 |  |' in lines
    assert '| mmdet/b | 2 | 1 |  | 1 |  | 1 |  |' in lines
    assert '| mmseg/c | 4 | 2 |  |  | 2 | 1 | 1 |' in lines
    assert '| **all** | 9 | 5 | 2 | 1 | 2 | 3 | 1 |' in lines
    assert '| 1 | carafe | `mmdet/b/one.py` |' in lines
    assert r'| 1 | it \| depends | `mmdet/b/two.py` |' in lines
    assert coverage(ROWS) == (2, 6), 'verified, of those that have an image backbone and CPU kernels'
    assert any('2 of 6 configs' in line and '33.3 %' in line and '1 failed' in line for line in lines)


@pytest.mark.parametrize(('count', 'said'), [
    (0, None), (1, '1 more config is verified in part'), (2, '2 more configs are verified in part')])
def test_configs_verified_in_part_are_told_as_on_the_page(count, said):
    rows = [*ROWS, *(dict(config=f'mmdet/d/{i}.py', status='upstream', reason='', necks=True) for i in range(count))]
    outcome, = (line for line in format_page(rows).splitlines() if line.startswith('**2 of '))
    assert (said in outcome) if said else ('verified in part' not in outcome)
    if count == 1:
        # The page takes hours to make: its words are the program's, its numbers are those of other rows.
        page = (ROOT / 'docs/zoo.md').read_text()
        assert re.sub(r'[\d.]+ ', '# ', outcome) in re.sub(r'[\d.]+ ', '# ', page)


def test_page_is_written_whole(tmp_path):
    write_page(ROWS, tmp_path / 'docs' / 'zoo.md')
    assert [p.name for p in (tmp_path / 'docs').iterdir()] == ['zoo.md']


def test_log_goes_on_where_it_was_stopped(tmp_path):
    file, now = tmp_path / 'zoo' / 'log.jsonl', dict(swap='1', verify='2')
    log = Log(file, now)
    log.add(dict(config='mmdet/a.py', status='swapped', model='m'))
    log.add(dict(config='mmdet/a.py', model='m', status='verified', reason='', seconds=1.))
    with file.open('a') as stream:
        stream.write('{"config": "mmdet/b.py", "sta')  # A process that was killed while it wrote.
    again = Log(file, now)
    assert set(again.rows) == {('config', 'mmdet/a.py'), ('model', 'm')}
    again.add(dict(config='mmdet/b.py', status='refused', kind='', reason=''))
    assert set(Log(file, now).rows) == {*again.rows}
    # Another swap: models that come out as before are not verified again.
    assert set(Log(file, dict(now, swap='3')).rows) == {('model', 'm')}
    assert set(Log(file, dict(swap='3', verify='4')).rows) == set()
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize(('file', 'again'), [
    ('swap/inputs.py', {'swap'}), ('swap/verify.py', {'verify'}), ('models/arguments.py', {'swap', 'verify'}),
    ('apis/report.py', set())])
def test_what_is_done_again(file, again, tmp_path, monkeypatch):
    before = states()
    shutil.copytree(log.PACKAGE, tmp_path / 'package')
    monkeypatch.setattr(log, 'PACKAGE', tmp_path / 'package')
    assert states() == before
    with (tmp_path / 'package' / file).open('a') as stream:
        stream.write('# changed')
    now = states()
    assert {name for name in now if now[name] != before[name]} == again
    monkeypatch.setattr(log, 'versions', lambda: dict(mmdet='0'))
    assert not now.items() & states().items()


def test_every_module_of_the_swap_decides_a_result():
    files = {path for paths in log._SOURCES.values() for path in paths}
    # How a config is written, how it follows an option, and the face of the package, do not.
    assert {f'swap/{path.name}' for path in (log.PACKAGE / 'swap').glob('*.py')} - files == {
        'swap/__init__.py', 'swap/leaf.py', 'swap/refit.py', 'swap/write.py'}


def test_models_that_differ_in_nothing_that_matters_are_one():
    def model(**head):
        return digest(keep_relevant(
            dict(backbone=dict(drop_path_rate=.1, init_cfg=None), head=dict(in_channels=[8], **head))))
    assert model(num_classes=80) == model(num_classes=19, init_cfg=dict(type='Normal'))
    assert model(num_convs=4) != model(num_convs=2)


@pytest.fixture
def _no_workers(monkeypatch):
    """Tasks run here: a process would import the toolboxes once more."""
    class Here:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, function, *task):
            future = Future()
            future.set_result(function(*task))
            return future
    monkeypatch.setattr('benchmarks.zoo.survey.ProcessPoolExecutor', Here)
    monkeypatch.setattr(os, 'environ', os.environ.copy())


@pytest.mark.usefixtures('_no_workers')
def test_survey_of_one_family(tmp_path, capsys):
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    file = tmp_path / 'log.jsonl'
    rows = survey(file, 1, 'faster-rcnn_r50-caffe_c4')
    assert [row['status'] for row in rows] == ['refused']
    rows = survey(file, 1, 'rpn/rpn_r50-caffe-c4')
    assert [(row['config'], row['status']) for row in rows] == [('mmdet/rpn/rpn_r50-caffe-c4_1x_coco.py', 'verified')]
    printed, lines = capsys.readouterr().err, file.read_text()
    assert '1 configs swapped in 0:' in printed and '1 models verified in ' in printed
    assert survey(file, 1, 'rpn/rpn_r50-caffe-c4') == rows
    assert (capsys.readouterr().err, file.read_text()) == ('', lines), 'nothing is done twice'
    assert json.loads(lines.splitlines()[-1])['seconds'] > 0
    with pytest.raises(UserError, match="no config of mmdet or mmseg has 'nothing-like-it'"):
        survey(file, 1, 'nothing-like-it')


OPEN = [dict(ROWS[0], model='m0'),
        dict(config='mmdet/a/open.py', status='upstream', reason='its fault', model='m1', necks=True),
        dict(config='mmdet/a/twin.py', status='upstream', reason='its fault', model='m1', necks=True),
        dict(config='mmseg/b/open.py', status='package', reason='lap', model='m2')]


def test_models_that_do_not_run_are_tried_under_the_other_distributions(tmp_path, monkeypatch):
    monkeypatch.setattr(other, 'config_folder', lambda package: Path('/configs', package))
    monkeypatch.setattr(other, 'versions', lambda: dict(mmdet='0'))
    done = []

    def verify_tasks(tasks, log, workers):
        done.extend(tasks)
        return [dict(model=task[2], status='verified' if task[2] == 'm1' else 'package') for task in tasks]

    def run(command, input, env, **_):
        assert command == ['other/python', '-m', 'benchmarks.zoo.other']
        assert env['PYTHONPATH'] == str(ROOT)
        out = io.StringIO()
        with monkeypatch.context() as patch, contextlib.redirect_stdout(out):
            patch.setattr('sys.stdin', io.StringIO(input))
            patch.setattr(other, 'verify_tasks', verify_tasks)
            print('a toolbox says hello')
            other.main()
        return SimpleNamespace(returncode=0, stdout=out.getvalue())

    monkeypatch.setattr(other.subprocess, 'run', run)
    rows = other.verify_elsewhere(OPEN, 'other/python', tmp_path / 'log', 2)
    assert done == [('mmdet', '/configs/mmdet/a/twin.py', 'm1'), ('mmseg', '/configs/mmseg/b/open.py', 'm2')]
    assert [row['status'] for row in rows] == ['verified', 'verified', 'verified', 'package']
    assert [row.get('under') for row in rows] == [None, dict(mmdet='0'), dict(mmdet='0'), None]
    page = format_page(rows)
    assert '2 configs of those verified below are verified there' in page and 'mmdet 0' in page
    assert '| 2 | its fault | `mmdet/a/open.py` |' in page.split('## Verified under')[1]
    assert 'verified in part' not in page, 'what is verified whole is not counted again for its necks'


@pytest.mark.parametrize(('python', 'message'), [('no/python', 'cannot be run'), ('false', 'exit code 1')])
def test_another_interpreter_that_fails(python, message, tmp_path):
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    with pytest.raises(UserError, match=f'--other.*{python}.*{message}'):
        other.verify_elsewhere([dict(OPEN[1], config='mmdet/a.py')], python, tmp_path / 'log', 1)
    assert other.verify_elsewhere(OPEN[:1], python, tmp_path / 'log', 1) == OPEN[:1], 'nothing to do'


def test_reasons_name_no_folder_of_this_machine(tmp_path, monkeypatch):
    (tmp_path / 'a.py').write_text("_base_ = './missing.py'")
    monkeypatch.setattr(trial, 'config_folder', lambda package: tmp_path)
    row = swap_config('mmdet', 'a.py')
    assert row['status'] == 'unloadable' and 'missing.py' in row['reason'] and str(tmp_path) not in row['reason']


def test_a_worker_that_was_killed_is_one_line(tmp_path):
    future = Future()
    future.set_exception(BrokenProcessPool('terminated abruptly'))
    with pytest.raises(UserError, match='worker was killed.*goes on from here.*--workers'):
        run_tasks(SimpleNamespace(submit=lambda *_: future), print, [()],
                  Log(tmp_path / 'log', dict(swap='1', verify='2')), 'verified')


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--workers', '0'], '--workers must be 1 or more, got 0'), (['--workers', 'two'], '--workers'),
    (['--nothing'], '--nothing')])
def test_bad_arguments_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('python -m benchmarks.zoo: error: ') and message in line


@pytest.mark.parametrize(('status', 'code'), [('verified', 0), ('refused', 0), ('failed', 1), ('swap failed', 1)])
def test_a_failure_is_the_exit_code(status, code, tmp_path, monkeypatch, capsys):
    row = dict(config='mmdet/a/one.py', status=status, kind='structure', reason='it depends')
    monkeypatch.setattr('benchmarks.zoo.__main__.survey', lambda *_: [row])
    assert main(['--out', str(tmp_path / 'page.md'), '--log', str(tmp_path / 'log')]) == code
    assert capsys.readouterr().out == f'written: {tmp_path / "page.md"}\n'


def test_a_text_that_no_config_has_is_one_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    assert cli.run(main, ['--only', 'nothing-like-it', '--log', str(tmp_path / 'log')]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_it_runs_as_a_module():
    command = [sys.executable, '-m', 'benchmarks.zoo', '--help']
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and '--other PYTHON' in result.stdout
