"""The rules of the house hold, and each of them is noticed when it is broken."""
import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.architecture import ALLOWED, PACKAGE, find_problems
from tests.helpers.paths import ROOT

FILES = sorted((ROOT / 'tests').rglob('*.py'))


def test_the_rules_hold():
    assert find_problems() == []


def test_every_room_is_in_the_table():
    rooms = {path.stem for path in (ROOT / PACKAGE).iterdir()
             if path.suffix == '.py' or (path / '__init__.py').is_file()}
    assert rooms - {'__init__'} == set(ALLOWED) - {''}


#: What is planted at the end of a module -> what is said about it.
PLANTED = {
    'a room above': ('utils/files.py', 'from convnext_mm.models import layers', 'utils may not import models'),
    'a sibling': ('engine/resume.py', 'import convnext_mm.evaluation.scores', 'engine may not import evaluation'),
    'apis': ('visualization/tensorboard.py', 'from convnext_mm import apis', 'visualization may not import apis'),
    'the models, by layer decay': ('engine/optimizers/layer_decay.py', 'from convnext_mm.models import ConvNeXt',
                                   'engine.optimizers may not import models'),
    'in a function': ('swap/inputs.py', 'def f():\n    from convnext_mm.swap import write',
                      'a function imports convnext_mm.swap.write'),
    'in a function, not optional': ('swap/inputs.py', 'def f():\n    import torch', 'which is not optional'),
    'a toolbox': ('datasets/fix.py', 'import mmdet.models', 'mmdet is imported at module level'),
    'triton': ('engine/settings.py', 'def f():\n    import triton', 'triton is for models.ops alone'),
    'a circle': ('utils/errors.py', 'from convnext_mm.utils import arguments', 'a circle of imports: .*utils.errors'),
    'a long function': ('utils/text.py', 'def f():\n' + '    pass\n' * 40, 'f has 41 lines'),
    'many parameters': ('utils/text.py', 'def f(a, b, c, d, e, f, g, h, i): pass', 'f has 9 positional parameters'),
    'a type nobody imports': ('engine/hooks/new.py', '@HOOKS.register_module()\nclass New: pass',
                              'engine.hooks does not import it'),
    'a type elsewhere': ('engine/new.py', '@HOOKS.register_module()\nclass New: pass', 'engine is no location'),
    'a new room': ('room/__init__.py', 'import convnext_mm.utils', 'the room room has no row'),
}


@pytest.mark.parametrize('case', PLANTED)
def test_a_planted_fault_is_found(case, tmp_path):
    name, text, message = PLANTED[case]
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns('__pycache__'))
    file = tmp_path / PACKAGE / name
    file.parent.mkdir(exist_ok=True)
    with file.open('a') as stream:
        stream.write(f'\n\n{text}\n')
    found = find_problems(tmp_path)
    assert any(re.search(message, problem) for problem in found), found


@pytest.mark.parametrize('module', [
    '', '.apis.cli', '.apis.arguments', '.checkpoint', '.drawing', '.published', '.utils'])
def test_what_is_imported_at_once_is_light(module):
    program = (f'import sys, {PACKAGE}{module}; heavy = {{"torch", "mmengine", "mmcv", "mmdet", "mmseg", "numpy"}}; '
               'print(sorted(heavy & sys.modules.keys()))')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
    # Drawing is done on arrays: its package imports numpy, but neither torch nor mm.
    expected = "['numpy']\n" if module == '.drawing' else '[]\n'
    assert result.stdout == expected, result.stdout + result.stderr


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_tests_stand_alone(path):
    text = path.read_text()
    assert not re.search(r'^\s*(?:from|import) (?:tests(?:\.(?!helpers)\w+)*\.)?test_\w+', text, re.M), 'imports a test'
    surgery = re.search(r'\bsys\.path\b(?!`)(?!\.copy)', text)
    assert not surgery or path.name == 'test_architecture.py', 'sys.path surgery'
