"""A classifier's file gives the confidences that mmpretrain gives, and is tested and predicted with like a model."""
import json
import os

import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain', reason='classifiers are of mmpretrain')
pytest.importorskip('timm', reason="its transforms are timm's")
pytest.importorskip('onnxruntime', reason='the extra "export" is not installed')

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from convnext_mm.apis.cli import main
from convnext_mm.export.formats import FORMATS
from tests.helpers.classifiers import COLOURS, CONFIG, draw
from tests.helpers.exported import randomise_whole

#: As mmpretrain's own configs have it: images of bytes, which the model normalises.
NORMALISES = """
_base_ = './floats.py'
model = dict(data_preprocessor=dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], to_rgb={to_rgb}))
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(80, 70)), dict(type='PackInputs')]))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs, images and random weights."""
    folder, before = tmp_path_factory.mktemp('exported'), os.getcwd()
    draw(folder / 'data/val', 2, 1)
    (folder / 'floats.py').write_text(CONFIG.replace('size=32', 'size=70'))
    for name, to_rgb in (('rgb', True), ('bgr', False)):
        (folder / f'{name}.py').write_text(NORMALISES.format(to_rgb=to_rgb))
    cfg = Config.fromfile(folder / 'floats.py')
    init_default_scope('mmpretrain')
    torch.save(dict(state_dict=randomise_whole(MODELS.build(cfg.model)).state_dict(),
                    meta=dict(dataset_meta=dict(classes=tuple(COLOURS)))), folder / 'random.pth')
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


def predictions(config, file, out):
    """Return the confidences of the classes of each image, by the command."""
    assert main('predict', [config, file, 'data/val', '--out-dir', out]) == 0
    with open(f'{out}/predictions.json') as content:
        return [{found['name']: found['score'] for found in entry['predictions']}
                for entry in json.load(content)['images']]


def figures(config, file, out):
    """Return what a test by the command measured."""
    assert main('test', [config, file, '--work-dir', out]) == 0
    with open(f'{out}/evaluation.json') as content:
        return [(figure['metric'], figure['measured']) for figure in json.load(content)['figures']]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(('config', 'ending', 'arguments', 'images'), [
    ('floats', '.onnx', [], np.float32), ('rgb', '.onnx', ['--logits'], np.uint8), ('bgr', '.pt2', [], np.uint8)])
def test_a_file_predicts_and_tests_as_the_model(config, ending, arguments, images, folder, capsys):
    file = f'{config}{ending}'
    assert main('export', [f'{config}.py', 'random.pth', file, *arguments]) == 0
    assert 'agrees with PyTorch' in capsys.readouterr().out
    facts = FORMATS[ending].read_facts(folder / file)
    assert facts['outputs'] == (['scores', 'logits'] if arguments else ['scores']) and facts['classes'] == [*COLOURS]
    assert facts['images'].startswith('float32' if config == 'floats' else 'RGB, uint8')
    scores = FORMATS[ending].open(folder / file)(np.zeros((2, 3, 70, 90), images))[0]
    assert scores.shape == (2, 6) and scores.sum(1) == pytest.approx(1)
    own, exported = (predictions(f'{config}.py', name, f'{config}_{number}')
                     for number, name in enumerate(('random.pth', file)))
    assert len(own) == 12 and max(len({*map(str, scores.values())}) for scores in own) > 1
    for expected, found in zip(own, exported):
        assert found == pytest.approx(expected, abs=1e-5)
    assert figures(f'{config}.py', file, 'file') == figures(f'{config}.py', 'random.pth', 'model')


@pytest.mark.parametrize(('arguments', 'said'), [
    (['m.onnx', '--int8'], '--int8 is for segmentors and detectors'),
    (['m.onnx', '--nms', 'hard'], '--nms is for whole detectors'),
    (['m.onnx', '--cfg-options', 'model.head.type=MultiLabelLinearClsHead', 'model.head.loss.type=CrossEntropyLoss',
      'model.head.loss.use_sigmoid=True', 'model.head.loss._delete_=True'],
     'model.head=MultiLabelLinearClsHead cannot be exported')])
def test_refusal_is_one_line(arguments, said, folder, capsys):
    assert main('export', ['floats.py', 'random.pth', *arguments]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(folder.glob('m.*'))


@pytest.mark.filterwarnings('ignore')
def test_a_config_that_prepares_images_otherwise_is_refused(folder, capsys):
    if not (folder / 'rgb.onnx').exists():
        assert main('export', ['rgb.py', 'random.pth', 'rgb.onnx']) == 0
    assert main('test', ['bgr.py', 'rgb.onnx', '--work-dir', 'refused']) == 2
    assert 'preprocessing.to_rgb=True, the config has False' in capsys.readouterr().err.strip().splitlines()[-1]
