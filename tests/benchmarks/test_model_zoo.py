"""The model index and the model zoo's page are those that the published numbers give, and name what exists."""
import pytest
import yaml

from benchmarks import model_zoo
from convnext_mm.published.paper import published
from convnext_mm.published.weights import weights
from tests.helpers.paths import ROOT

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())
PAGE = (ROOT / 'docs/model_zoo.md').read_text()
MODELS = {model['Config']: model for model in INDEX['Models']}
ROWS = {f'configs/{row["config"]}': row for row in published()['coco'] + published()['ade20k']}


@pytest.mark.parametrize(('file', 'write'), [
    ('model-index.yml', model_zoo.model_index), ('docs/model_zoo.md', model_zoo.page)])
def test_the_files_are_what_the_generator_writes(file, write):
    assert (ROOT / file).read_text() == write(), '`make model-zoo` writes it'


def test_main_writes_both(tmp_path, monkeypatch):
    monkeypatch.setattr(model_zoo, 'ROOT', tmp_path)
    monkeypatch.setattr(model_zoo, 'other_configs', list)
    model_zoo.main()
    assert (tmp_path / 'model-index.yml').read_text() == model_zoo.model_index()
    assert (tmp_path / 'docs/model_zoo.md').read_text() == model_zoo.page()


def test_every_config_has_a_row():
    paths = (path.relative_to(ROOT / 'configs') for path in (ROOT / 'configs').rglob('*.py'))
    configs = [path.as_posix() for path in paths if not any(part.startswith('_') for part in path.parts)]
    assert len(configs) >= 15
    for config in configs:
        assert f'\n| `{config}` |' in PAGE
    assert PAGE.count('.py` |') == len(configs)


def test_every_model_of_the_paper_is_in_the_index():
    assert list(MODELS) == list(ROWS)
    assert {model['In Collection'] for model in MODELS.values()} == {each['Name'] for each in INDEX['Collections']}
    assert len({model['Name'] for model in MODELS.values()}) == len(MODELS)


@pytest.mark.parametrize('config', MODELS)
def test_a_model(config):
    model, row = MODELS[config], ROWS[config]
    assert (ROOT / config).is_file()
    assert (ROOT / model['README']).is_file()
    assert model['Weights'] == row['finetuned_weights']
    assert model['Weights'] in {each.url for each in weights().values()}
    measured = {name: value for result in model['Results'] for name, value in result['Metrics'].items()}
    keys = {'box AP': 'box_ap', 'mask AP': 'mask_ap', 'mIoU': 'miou_single_scale',
            'mIoU(ms+flip)': 'miou_multi_scale_flip'}
    assert measured == {name: row[key] for name, key in keys.items() if key in row}
    assert model['Metadata']['Parameters (M)'] == row['params_m']
    assert ('Mixed Precision Training' in model['Metadata']['Training Techniques']) == row['amp']


@pytest.mark.parametrize('name', [name for name, row in weights().items()])
def test_a_checkpoint(name):
    assert f'[{name}]({weights()[name].url})' in PAGE
