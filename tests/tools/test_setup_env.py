"""The set-up tells how far a compilation is, and takes a ready wheel of mmcv only where it fits."""
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch

from tests.helpers.paths import ROOT
from tools import setup_env

#: Stands for mmcv's setup.py: prints as ninja does, and leaves a wheel.
FAKE_BUILD = """import sys, time
for done in (1, 2, 3):
    print(f'[{done}/3] c++ -c {done}.cpp', flush=True)
    time.sleep(0.2)
assert sys.argv[1:4] == ['-q', 'bdist_wheel', '-d']
import os
os.makedirs(sys.argv[4])
open(sys.argv[4] + '/fake_mmcv-1.2-py3-none-any.whl', 'w').close()
"""


@pytest.mark.parametrize(('log', 'seconds', 'told'), [
    ('', 5, None),
    ('running bdist_wheel\n', 5, None),
    ('[1/78] c++ a.cpp\n', 6, '1 of 78 files compiled, about 7:42 left'),
    ('[1/78] c++ a.cpp\nwarning: [40/41]\n[26/78] c++ b.cpp\n', 130, '26 of 78 files compiled, about 4:20 left'),
    ('[78/78] c++ z.cpp\n', 480, '78 of 78 files compiled, about 0:00 left'),
])
def test_progress(log, seconds, told):
    assert setup_env.progress(log, seconds) == told


@pytest.mark.parametrize('terminal', [True, False])
def test_a_build_is_told_while_it_runs(tmp_path, monkeypatch, capsys, terminal):
    monkeypatch.setattr(setup_env, 'LOOK', 0.02)
    monkeypatch.setattr(setup_env, 'TELL', 0)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: terminal, raising=False)
    source = tmp_path / 'fake_mmcv-1.2'
    source.mkdir()
    (source / 'setup.py').write_text(FAKE_BUILD)
    wheel = setup_env.build_mmcv(sys.executable, 'fake-mmcv', '1.2', tmp_path)
    assert wheel == tmp_path / 'wheels/fake_mmcv-1.2-py3-none-any.whl'
    assert wheel.is_file()
    out = capsys.readouterr().out
    assert all(f'{done} of 3 files compiled, about 0:0' in out for done in (1, 2, 3))
    # On a terminal one line is written over.
    assert ('\r' in out) == terminal
    assert setup_env.build_mmcv(sys.executable, 'fake-mmcv', '1.2', tmp_path) == wheel
    assert not capsys.readouterr().out, 'a wheel that is there is not compiled again'


def test_headers_are_parsed_once(tmp_path):
    """GCC takes what was parsed from the header as it was, with the options of the real compilation."""
    version = subprocess.run(['c++', '-v'], capture_output=True, text=True).stderr if shutil.which('c++') else ''
    if 'gcc version' not in version:
        pytest.skip('no GCC here')
    header = tmp_path / 'mmcv/ops/csrc/common/pytorch_cpp_helper.hpp'
    header.parent.mkdir(parents=True)
    header.write_text('#include <vector>\n')
    precompiled = setup_env.precompile(sys.executable, tmp_path, '-O3 -g0')
    made = precompiled.stat().st_mtime_ns
    header.write_text('#error parsed again\n')
    (tmp_path / 'a.cpp').write_text('#include "pytorch_cpp_helper.hpp"\nstd::vector<int> sizes;\n')
    compiled = subprocess.run(['c++', '-O3', '-g0', '-fPIC', f'-I{header.parent}', '-c', 'a.cpp', '-std=c++17',
                               '-DTORCH_EXTENSION_NAME=_ext'], cwd=tmp_path, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    setup_env.precompile(sys.executable, tmp_path, '-O3 -g0')
    assert precompiled.stat().st_mtime_ns == made, 'ninja would begin anew'


def _wheel(folder, name, operators=''):
    path = folder / name
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('mmcv/__init__.py', '')
        file.writestr('mmcv/ops/__init__.py', operators)
    return path


#: A wheel's name and ``mmcv/ops/__init__.py``, and what the error says besides the variable's name.
REFUSED = {
    'another package': ('mmcv-2.3.6-py3-none-any.whl', '', 'is mmcv 2.3.6; this stack needs onedl-mmcv 2.3.6'),
    'another version': ('onedl_mmcv-2.3.4-py3-none-any.whl', '',
                        'is onedl-mmcv 2.3.4; this stack needs onedl-mmcv 2.3.6'),
    'another Python': ('onedl_mmcv-2.3.6-cp27-cp27m-linux_x86_64.whl', '', 'is for another Python or another machine'),
    'another machine': ('onedl_mmcv-2.3.6-py3-none-win_amd64.whl', '', 'is for another Python or another machine'),
    'no name of a wheel': ('mmcv.whl', '', 'is mmcv.whl (no version in its name); this stack needs onedl-mmcv 2.3.6'),
    'another torch': ('onedl_mmcv-2.3.6+pt2.1-py3-none-any.whl', 'raise ImportError("undefined symbol: _ZN3c10")',
                      f'onedl-mmcv 2.3.6 of this wheel does not run with torch {torch.__version__} '
                      '(ImportError: undefined symbol: _ZN3c10)'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_a_wheel_that_does_not_fit(tmp_path, case):
    name, operators, message = REFUSED[case]
    wheel = _wheel(tmp_path, name, operators)
    with pytest.raises(setup_env.SetupError) as caught:
        setup_env.check_wheel(sys.executable, wheel, 'onedl-mmcv', '2.3.6')
    told = str(caught.value)
    assert message in told
    assert told.startswith(f'CONVNEXT_MM_MMCV_WHEEL={wheel}')
    assert '\n' not in told


@pytest.mark.parametrize('make', [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text('no zip')],
                         ids=['missing', 'a folder', 'no archive'])
def test_what_is_no_wheel(tmp_path, make):
    wheel = tmp_path / 'onedl_mmcv-2.3.6-py3-none-any.whl'
    make(wheel)
    with pytest.raises(setup_env.SetupError, match='is no wheel: give the path of a .whl file of onedl-mmcv 2.3.6'):
        setup_env.check_wheel(sys.executable, wheel, 'onedl-mmcv', '2.3.6')


def test_a_wheel_that_fits(tmp_path):
    wheel = _wheel(tmp_path, 'onedl_mmcv-2.3.6+pt2.13-py3-none-any.whl')
    setup_env.check_wheel(sys.executable, wheel, 'onedl-mmcv', '2.3.6')


def test_the_wheel_is_refused_before_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setenv('CONVNEXT_MM_MMCV_WHEEL', str(_wheel(tmp_path, 'mmcv-2.1.0-py3-none-any.whl')))
    installed = []
    monkeypatch.setattr(setup_env, 'run', lambda *command: installed.append(command[1:]))
    with pytest.raises(setup_env.SetupError, match='is mmcv 2.1.0'):
        setup_env.mmcv_wheel(sys.executable, ['install'], 'onedl-mmcv', '2.3.6')
    assert installed == [('onedl-mmengine', 'opencv-python-headless')], 'mmcv.ops needs these, and no more'


def test_a_wrong_call_is_one_line():
    asked = subprocess.run([sys.executable, ROOT / 'tools/setup_env.py', 'caffe'], capture_output=True, text=True)
    assert asked.returncode == 2
    assert "invalid choice: 'caffe'" in asked.stderr.splitlines()[-1]


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab', 'torch21'])
def test_a_new_machine_gets_torch(tmp_path, monkeypatch, stack):
    """The package itself requires neither torch nor mmengine, so each environment has to ask for them."""
    commands = []
    monkeypatch.setattr(setup_env, 'run', lambda *command: commands.append(list(map(str, command))))
    monkeypatch.setattr(setup_env, 'mmcv_wheel', lambda *args: tmp_path / 'mmcv.whl')
    for name in ('requirements', 'setup.py'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(setup_env, 'ROOT', tmp_path)
    venv = tmp_path / setup_env.STACKS[stack][0] / 'bin'
    venv.mkdir(parents=True)
    for name in ('pip', 'python'):
        (venv / name).touch()
    assert setup_env.setup(stack) == venv.parent
    asked = [word for command in commands if 'install' in command for word in command]
    assert 'torch' in asked
    assert 'mmengine' in asked or f'-e {tmp_path}[{stack},dev]' in ' '.join(asked)
