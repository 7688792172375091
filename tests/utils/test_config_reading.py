"""Bases of every toolbox are found in both families; a pure Python config is read with all that it imports."""
import re

import pytest
from mmengine.config import Config

from convnext_mm.apis.config import read_config
from convnext_mm.utils.config_files import find_config
from convnext_mm.utils.errors import UserError

BASES = ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py',
         'mmseg::_base_/models/fcn_r50-d8.py', 'mmpretrain::resnet/resnet50_8xb32_in1k.py')


def without_scopes(node):
    if isinstance(node, dict):
        return {key: without_scopes(value) for key, value in node.items() if key != '_scope_'}
    return type(node)(map(without_scopes, node)) if isinstance(node, (list, tuple)) else node


@pytest.mark.parametrize('base', BASES)
def test_a_base_of_a_toolbox(base, tmp_path):
    pytest.importorskip(base.partition('::')[0], reason="the config is that toolbox's")
    (tmp_path / 'own.py').write_text(f'_base_ = {base!r}\nmine = 3\n')
    read = without_scopes(read_config(tmp_path / 'own.py').to_dict())
    assert read == dict(without_scopes(Config.fromfile(find_config(base)).to_dict()), mine=3)


def test_a_base_of_this_package_by_name_is_told_how(tmp_path):
    (tmp_path / 'own.py').write_text("_base_ = 'convnext_mm::cascade/convnext_t_3x.py'\n")
    with pytest.raises(UserError, match=re.escape('; write _base_ = __import__("convnext_mm").config("FAMILY/NAME')):
        read_config(tmp_path / 'own.py')


@pytest.mark.parametrize(('text', 'words'), [
    ('from nowhere import Model\nmodel = dict(type=Model)\n', 'ModuleNotFoundError.*nowhere'),
    ('import nowhere.models\nmodel = dict(parts=[dict(type=nowhere.models.Model)])\n', 'nowhere'),
    ('from torch.nn import NoLayer\nmodel = dict(type=NoLayer)\n', 'ImportError.*NoLayer'),
    ('from mmengine.config import read_base\nwith read_base():\n    from .nowhere import *\n', 'nowhere.py not found'),
    ('model = dict(\n', 'SyntaxError'), ('model = 1 / 0\n', 'ZeroDivisionError'), ("_base_ = './no.py'\n", 'no.py'),
    ("_base_ = 'mmseg::nowhere/a.py'\n", 'mmseg'), ("_base_ = 'mmnone::nowhere/a.py'\n", 'mmnone')])
def test_what_cannot_be_read_is_the_configs_error(text, words, tmp_path):
    (tmp_path / 'own.py').write_text(text)
    with pytest.raises(UserError, match=f"own.py' cannot be read: .*{words}"):
        read_config(tmp_path / 'own.py')


def test_what_is_imported_and_not_used_may_be_missing(tmp_path):
    (tmp_path / 'own.py').write_text('from nowhere import Model\nfrom torch.nn import ReLU\nmodel = dict(type=ReLU)\n')
    assert read_config(tmp_path / 'own.py').model.type.__name__ == 'ReLU'
