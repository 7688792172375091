"""Every command has a tool, a module and a help; mistakes and errors end as they should."""
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
    assert f'tools/{command}.py' in shown, 'the first line has an example'
    assert not re.search(r'^    \S', shown.split('\n\n')[1], re.M), 'the text is not indented as in the source'


def test_every_tool_is_a_command_or_a_script_of_its_own():
    tools = {path.stem for path in (ROOT / 'tools').glob('*.py')}
    assert tools - set(COMMANDS) <= {'setup_env'}


def test_help_imports_neither_torch_nor_mm():
    program = ('import sys; from convnext_mm.apis.cli import main\n'
               'try:\n    main("train", ["--help"])\nexcept SystemExit:\n    pass\n'
               'print(sorted({"torch", "mmengine", "mmdet"} & sys.modules.keys()), file=sys.stderr)')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
    assert result.stderr == '[]\n' and 'usage:' in result.stdout


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
