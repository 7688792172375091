"""Configs by name: found in both families, and the nearest names where there is none."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

import convnext_mm
from convnext_mm.utils import config_files
from convnext_mm.utils.config_files import config_folder, find_config, leaf_configs
from convnext_mm.utils.errors import ArgumentTypeError, UserError
from tests.helpers.paths import ROOT

RETINANET = 'retinanet/retinanet_r50_fpn_1x_coco.py'


@pytest.fixture
def toolboxes(tmp_path, monkeypatch):
    """A package ``mmtoy`` with two configs, and none of the other toolboxes."""
    folder = tmp_path / 'packages' / 'mmtoy'
    for name in (RETINANET, RETINANET.replace('1x', '2x'), 'yolox/yolox_s.py', '_base_/runtime.py', 'ssd/_base_.py'):
        file = folder / '.mim' / 'configs' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('')
    (folder / '__init__.py').write_text('')
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setattr(config_files, 'PACKAGES', ('convnext_mm', 'mmtoy'))
    (tmp_path / 'here' / 'mine').mkdir(parents=True)
    (tmp_path / 'here' / 'mine' / 'cascade_shapes.py').write_text('')
    monkeypatch.chdir(tmp_path / 'here')
    return folder / '.mim' / 'configs'


@pytest.mark.parametrize(('name', 'path'), [
    ('mine/cascade_shapes.py', 'mine/cascade_shapes.py'),
    (f'mmtoy::{RETINANET}', f'mmtoy/.mim/configs/{RETINANET}'),
    (f'mmtoy::{RETINANET[:-3]}', f'mmtoy/.mim/configs/{RETINANET}'),
    ('convnext_mm::cascade/convnext_t_3x.py', 'configs/cascade/convnext_t_3x.py'),
    ('convnext_mm::upernet/convnext_t_512_160k', 'configs/upernet/convnext_t_512_160k.py')])
def test_names_and_paths(name, path, toolboxes):
    found = find_config(name)
    assert found.is_file() and found.as_posix().endswith(path)


@pytest.mark.parametrize(('name', 'words'), [
    # One letter less, no folder, no package, another machine's folder: the right one comes first.
    ('mmtoy::retinanet/retinanet_r5_fpn_1x_coco.py', f'did you mean mmtoy::{RETINANET} or '),
    ('mmtoy::retinanet_r50_fpn_1x_coco.py', f'did you mean mmtoy::{RETINANET}?'),
    ('mmtoy::retinanet/retinanet_r50_fpn_1x_coc', f'did you mean mmtoy::{RETINANET} or '),
    (RETINANET, f'did you mean mmtoy::{RETINANET}?'),
    ('cascade/convnext_t_3x.py', 'did you mean convnext_mm::cascade/convnext_t_3x.py or '),
    ('/nowhere/configs/upernet/convnext_t_512_160.py', 'did you mean convnext_mm::upernet/convnext_t_512_160k.py or '),
    ('mine/cascade_shape.py', 'did you mean mine/cascade_shapes.py?'),
    ('convnext_mm::cascade/convnext_t3x', 'did you mean convnext_mm::cascade/convnext_t_3x.py or '),
    ('mmtyo::a/b.py', "'mmtyo' is not installed, did you mean mmtoy::?"),
    ('nothing/like/it.yaml', 'does not exist; expected a path, or convnext_mm::FAMILY/NAME.py'),
    ('mmtoy::zzz', 'does not exist; expected a path, or'), ('mmtoy::', 'does not exist; expected a path, or'),
    ('::', 'expected a path, or'), ('a::b::c', "'a' is not installed; expected a path, or"),
    ('os.path::b', 'is not installed; expected a path, or'), ('mine', "'mine' is a folder; expected a path, or"),
    ('json::a', 'came without its configs: give the path')])
def test_the_nearest_names(name, words, toolboxes):
    with pytest.raises(UserError) as caught:
        find_config(name)
    assert words in str(caught.value) and '\n' not in str(caught.value) and repr(name.partition('::')[0])[:-1] in str(
        caught.value) or 'json at' in str(caught.value)


def test_a_toolbox_that_is_missing_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(config_files, 'PACKAGES', ('convnext_mm', 'mmnone'))
    with pytest.raises(UserError, match=r'mmnone is not installed.*pip install'):
        find_config('mmnone::a/b.py')


def test_leaf_configs_are_no_bases(toolboxes):
    assert leaf_configs('mmtoy') == [RETINANET, RETINANET.replace('1x', '2x'), 'yolox/yolox_s.py']
    assert 'cascade/convnext_t_3x.py' in leaf_configs('convnext_mm')
    assert config_folder('mmtoy') == toolboxes


@pytest.mark.parametrize(('name', 'path'), [
    ('cascade/convnext_t_3x.py', 'configs/cascade/convnext_t_3x.py'), ('cascade/convnext_t_3x',) * 2,
    ('demo/upernet.py', 'configs/demo/upernet.py'), (f'mmtoy::{RETINANET}', RETINANET)])
def test_the_public_function_returns_a_path(name, path, toolboxes):
    found = convnext_mm.config(name)
    assert isinstance(found, str) and os.path.isabs(found) and Path(found).is_file() and path in found


@pytest.mark.parametrize(('name', 'error', 'words'), [
    ('cascade/convnext_t3x.py', UserError, 'did you mean convnext_mm::cascade/convnext_t_3x.py'),
    (None, ArgumentTypeError, 'name must be a text such as'), (3, ArgumentTypeError, 'got 3')])
def test_the_public_function_refuses(name, error, words):
    with pytest.raises(error) as caught:
        convnext_mm.config(name)
    assert words in str(caught.value)


def test_the_public_function_needs_neither_torch_nor_mm():
    program = ('import sys, convnext_mm; convnext_mm.config("cascade/convnext_t_3x.py"); '
               'print(*sorted({"torch", "mmengine", "numpy"} & {*sys.modules}))')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, ''), done.stderr
