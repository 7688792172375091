"""Every command has a tool, a module and a help; mistakes and errors end as they should."""
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from convnext_mm.apis import cli
from convnext_mm.apis.arguments import COMMANDS, make_parser
from convnext_mm.utils.errors import RunInterrupted, RunStopped, UserError
from tests.helpers.paths import ROOT


@pytest.mark.parametrize('command', COMMANDS)
def test_a_command_has_a_tool_and_a_module(command, capsys):
    assert find_spec(f'convnext_mm.apis.{command}')
    tool = ROOT / 'tools' / f'{command}.py'
    assert len(tool.read_text().splitlines()) <= 10 and f"main('{command}')" in tool.read_text()
    with pytest.raises(SystemExit) as ended:
        make_parser(command).parse_args(['--help'])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f': convnext-mm {command}' in shown.split('\n\n')[1].splitlines()[0], 'the first line has an example'
    assert not re.search(r'^    \S', shown.split('\n\n')[1], re.M), 'the text is not indented as in the source'


def test_every_tool_is_a_command_or_a_script_of_its_own():
    tools = {path.stem for path in (ROOT / 'tools').glob('*.py')}
    assert tools - set(COMMANDS) <= {'setup_env'}


@pytest.mark.parametrize(('arguments', 'code', 'said'), [
    (['--help'], 0, 'usage: convnext-mm '), (['train', '--help'], 0, 'usage: convnext-mm train '),
    ([], 2, 'convnext-mm: error: the following arguments are required: COMMAND'),
    (['trian', 'a.py'], 2, "convnext-mm: error: argument COMMAND: there is no command 'trian'; did you mean train?"),
    (['check-data'], 2, 'did you mean check_data?'), (['xyz'], 2, 'there are train, test, '),
    (['train', 'a.py', '--strategy', 'x'], 2, "convnext-mm train: error: argument --strategy: invalid choice: 'x'"),
    (['train', 'no/such.py'], 2, "convnext-mm train: error: config 'no/such.py' does not exist"),
    (['test', 'mmdet::no/such.py', 'a.pth'], 2, "convnext-mm test: error: config 'mmdet::no/such.py' does not exist")])
def test_what_is_answered_without_torch_and_mm(arguments, code, said):
    """Importing them takes seconds. The same holds for a tool of its own, which calls the same code."""
    if any('mmdet::' in argument for argument in arguments):
        pytest.importorskip('mmdet', reason='its configs are named')
    program = (f'import sys; from convnext_mm.apis.cli import command_line\n'
               f'try:\n    code = command_line({arguments})\nexcept SystemExit as ended:\n    code = ended.code\n'
               'print(code, *sorted({"torch", "mmengine", "mmdet", "numpy"} & sys.modules.keys()))')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
    *shown, end = result.stdout.splitlines()
    assert end == str(code)
    message = '\n'.join(shown) if code == 0 else result.stderr
    assert said in message
    assert code == 0 or message.count('\n') == 1


def test_the_overview_tells_every_command_in_a_line(capsys):
    with pytest.raises(SystemExit):
        cli.command_line(['--help'])
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf'^  {command} +[A-Z][^:]*$', shown, re.M)


@pytest.mark.parametrize('how', ['module', 'tool', 'script'])
def test_a_command_is_called_in_three_ways(how, tmp_path):
    calls = dict(module=(['-m', 'convnext_mm', 'train'], 'convnext-mm train'),
                 tool=([str(ROOT / 'tools' / 'train.py')], 'train.py'),
                 # What the console script does.
                 script=(['-c', 'import sys; from convnext_mm.apis.cli import command_line; sys.exit(command_line())',
                          'train'], 'convnext-mm train'))
    command, name = calls[how]
    result = subprocess.run([sys.executable, *command, 'no.py'], capture_output=True, text=True, cwd=tmp_path,
                            env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert (result.returncode, result.stdout) == (2, '')
    assert result.stderr.startswith(f"{name}: error: config 'no.py' does not exist")


@pytest.mark.parametrize(('environment', 'launcher'), [({}, 'none'), ({'TORCHELASTIC_RUN_ID': 'none'}, 'pytorch')])
def test_torchrun_is_known(environment, launcher, monkeypatch):
    monkeypatch.delenv('TORCHELASTIC_RUN_ID', raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert make_parser('train').parse_args(['a.py']).launcher == launcher
    assert make_parser('train').parse_args(['a.py', '--launcher', 'slurm']).launcher == 'slurm'


def test_a_package_that_a_command_needs(monkeypatch, capsys):
    def fail(name):
        raise ModuleNotFoundError("No module named 'mmdet'", name='mmdet')
    monkeypatch.setattr(cli, 'import_module', fail)
    monkeypatch.setattr(cli, 'check_needed', lambda error: None)
    assert cli.main('demo', []) == 2
    assert 'demo needs mmdet, which is not installed: pip install "convnext_mm[onedl]"' in capsys.readouterr().err


@pytest.mark.parametrize(('error', 'code'), [
    (UserError('a\n  b'), 2), (RunStopped('a b'), 1), (RunInterrupted('a b'), 75)])
def test_an_error_is_one_line(error, code, capsys, monkeypatch):
    def fail(argv):
        raise error
    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    assert cli.run(fail) == code
    assert capsys.readouterr().err == 'train.py: error: a b\n'


@pytest.mark.parametrize(('returned', 'code'), [(None, 0), (False, 0), (True, 1), (3, 3)])
def test_what_a_command_returns_is_the_exit_code(returned, code):
    assert cli.run(lambda argv: returned) == code


def test_a_reader_that_went_away():
    program = ('from convnext_mm.apis.cli import run\nimport sys\n'
               'def main(argv):\n    for _ in range(100000):\n        print("line")\nsys.exit(run(main))')
    result = subprocess.run(['bash', '-c', '"$0" -c "$1" | head -1; echo ${PIPESTATUS[0]}', sys.executable, program],
                            capture_output=True, text=True, cwd=ROOT)
    assert (result.stdout, result.stderr) == ('line\n1\n', '')
