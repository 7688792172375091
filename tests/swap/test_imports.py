"""What a pure Python config imports keeps its place through a swap, and is imported again by what is written."""
import pytest
from mmengine.config import Config

from convnext_mm.swap.imports import is_pure, read_names, to_code, to_objects

CONFIG = """
from torch.nn import ReLU, Linear as Dense
from torch.optim import AdamW
from torch import optim
import torch
import torch.nn.functional
import torch.nn as layers
from mmengine.config import ConfigDict
from torch.utils.data import Dataset as Dense_2
model = dict(type=Dense, parts=[dict(type=ReLU), dict(type=layers.Conv2d, dtype=torch.float16)], other=(1., 'Dense'))
optimizer = dict(type=AdamW, other=optim.SGD, fn=torch.nn.functional.relu)
ReLU_ = dict(type=Dense_2, AdamW=3, real=ConfigDict)
"""


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / 'pure.py').write_text(CONFIG)
    return Config.fromfile(tmp_path / 'pure.py')


def test_names_are_dotted_and_objects_come_back(cfg):
    names = read_names(cfg)
    assert set(names) == {'model', 'optimizer', 'ReLU_'}
    assert names['model']['type'] == 'torch.nn.Linear' and names['model']['parts'][0] == {'type': 'torch.nn.ReLU'}
    assert names['optimizer'] == dict(type='torch.optim.AdamW', other='torch.optim.SGD',
                                      fn='torch.nn.functional.relu')
    again = Config(to_objects(names))
    assert read_names(again) == names
    assert again.model.type is cfg.model.type and again.optimizer.fn is cfg.optimizer.fn


def test_the_code_imports_the_same_objects(cfg, tmp_path):
    statements, tree = to_code(cfg)
    text = '\n'.join([*statements, *(f'{key} = {value!r}' for key, value in tree.items()), ''])
    (tmp_path / 'again.py').write_text(text)
    again = Config.fromfile(tmp_path / 'again.py')
    assert read_names(again) == read_names(cfg) and len(set(statements)) == len(statements)
    for left, right in ((again.model, cfg.model), (again.optimizer, cfg.optimizer), (again.ReLU_, cfg.ReLU_)):
        assert left.type is right.type
    assert again.model.parts[1].dtype is cfg.model.parts[1].dtype and again.ReLU_.real is cfg.ReLU_.real


def test_names_that_are_taken_get_another(tmp_path):
    (tmp_path / 'pure.py').write_text('from torch.nn import Linear\nfrom torch.nn.functional import relu as Relu\n'
                                      'from torch import relu as Relu_0\n'
                                      'a = dict(type=Linear, b=Relu, c=Relu_0, d=Linear)\nrelu = 1\n')
    cfg = Config.fromfile(tmp_path / 'pure.py')
    statements, tree = to_code(cfg)
    assert statements == ['from torch import relu as relu_3', 'from torch.nn import Linear',
                          'from torch.nn.functional import relu as relu_2']
    assert repr(tree['a']) == "{'type': Linear, 'b': relu_2, 'c': relu_3, 'd': Linear}" and tree['relu'] == 1


def test_a_config_of_texts_is_not_pure(cfg):
    assert is_pure(cfg) and not is_pure(Config(dict(model=dict(type='ResNet', depth=[50]))))
