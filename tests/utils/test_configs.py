"""Ways through a config find every part, whatever wraps it."""
import pytest
from mmengine.config import ConfigDict

from convnext_mm.utils import configs

INNER = dict(type='CocoDataset', ann_file='a.json')


class Model:
    pass


@pytest.mark.parametrize(('node', 'name'), [
    (dict(type='ResNet'), 'ResNet'), (dict(type='mmdet.ResNet'), 'ResNet'), (dict(type=Model), 'Model'),
    (dict(type=None), ''), (dict(), ''), ([], ''), ('ResNet', ''), (ConfigDict(type='a.b.C'), 'C')])
def test_names_of_types(node, name):
    assert configs.type_name(node) == name


def test_every_dict_with_its_path():
    config = dict(a=dict(b=[1, dict(c=2), (dict(d=3),)]), e='text')
    assert list(configs.walk(config)) == [
        ((), config), (('a',), config['a']), (('a', 'b', 1), dict(c=2)), (('a', 'b', 2, 0), dict(d=3))]


@pytest.mark.parametrize(('dataset', 'keys'), [
    (INNER, ['x']), (dict(dataset=INNER), ['x.dataset']),
    (dict(datasets=[INNER, INNER]), ['x.datasets.0', 'x.datasets.1']),
    (dict(dataset=dict(datasets=[dict(dataset=INNER)])), ['x.dataset.datasets.0.dataset'])])
def test_data_sets_inside_of_wrappers(dataset, keys):
    assert list(configs.leaf_datasets(dataset, 'x')) == [(key, INNER) for key in keys]


def test_segmentors():
    model = Model()
    assert configs.is_segmentor(dict(decode_head=dict())) and not configs.is_segmentor(dict())
    assert not configs.is_segmentor(model)
    model.decode_head = None
    assert configs.is_segmentor(model)


@pytest.mark.parametrize(('model', 'beside', 'joined'), [
    (dict(type='A'), dict(mean=1), dict(mean=1)), (dict(data_preprocessor=dict(mean=2)), dict(mean=1), dict(mean=2)),
    (dict(type='A'), None, None), (None, dict(mean=1), None)])
def test_a_preprocessor_beside_the_model_is_the_models(model, beside, joined):
    cfg = ConfigDict(model=model, data_preprocessor=beside)
    configs.join_preprocessor(cfg)
    assert (cfg.model or {}).get('data_preprocessor') == joined
