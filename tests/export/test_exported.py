"""Exported files in test and predict: the figures, pictures and files of the checkpoint; other configs are refused."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmseg', reason='the files are of models of mmseg and mmdet')
pytest.importorskip('mmdet', reason='the files are of models of mmseg and mmdet')
pytest.importorskip('onnxruntime', reason='the extra "export" is not installed')

from mmengine.config import Config

from convnext_mm.apis.cli import main
from convnext_mm.datasets import shapes
from convnext_mm.export.check import CASES, images_of
from convnext_mm.export.export import detector, segmentor
from convnext_mm.export.exportable import exportable
from convnext_mm.export.facts import check_facts, describe, read_facts
from convnext_mm.export.formats import FORMATS, Graph
from convnext_mm.utils.errors import UserError
from tests.helpers.exported import DENSE, build_random, make_dense
from tests.helpers.instances import forget_instances
from tests.helpers.paths import ROOT


def write(folder, kind, options):
    """Write a demo model's config and a checkpoint with random weights, its export, and data; return the config."""
    cfg = Config.fromfile(ROOT / f'configs/demo/{"upernet" if kind == "upernet" else "cascade"}.py')
    if kind in DENSE:
        make_dense(cfg, kind, 3)
    cfg.merge_from_dict(options)
    cfg.dump(folder / 'config.py')
    model = build_random(cfg)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'model.pth')
    subject = segmentor(model, False) if kind == 'upernet' else detector(model)
    images, graph = images_of(CASES[0]), subject.graphs[-1]
    with exportable(graph):
        FORMATS['.onnx'].write(Graph(graph, images, subject.resizes, subject.written), folder / 'model.onnx',
                               describe(cfg, 'whole', outputs=subject.written, classes=None))
    generate, name = (shapes.generate_ade, 'ade') if kind == 'upernet' else (shapes.generate_coco, 'coco')
    generate(folder / 'data/shapes' / name, train=1, val=3, width=240, height=200)
    return str(folder / 'config.py')


def run(command, config, file, *arguments):
    forget_instances()
    assert main(command, [config, str(file), *arguments]) == 0


#: Kind of the model, options, and how many figures have to be alike.
MODELS = {
    'detector': ('cascade', {'model.test_cfg.rpn.max_per_img': 30, 'model.test_cfg.rcnn.max_per_img': 20}, 24),
    'detector of one stage': ('RetinaNet', {'model.test_cfg.max_per_img': 20, 'test_evaluator.metric': 'bbox'}, 12),
    'windows': ('upernet', {'model.test_cfg.crop_size': (96, 96), 'model.test_cfg.stride': (64, 64)}, 3),
    'whole images': ('upernet', {'model.test_cfg.mode': 'whole'}, 3),
}


@pytest.mark.parametrize(('kind', 'options', 'number'), MODELS.values(), ids=MODELS)
@pytest.mark.filterwarnings('ignore')
def test_file_is_tested_and_predicts_as_the_checkpoint(tmp_path, monkeypatch, kind, options, number):
    monkeypatch.chdir(tmp_path)
    config = write(tmp_path, kind, options)
    picture, figures, found = str(next((tmp_path / 'data').rglob('*val*/*.png'))), [], []
    for ending in ('pth', 'onnx'):
        out = Path(f'found_{ending}')
        run('test', config, f'model.{ending}', '--work-dir', f'work_{ending}')
        run('predict', config, f'model.{ending}', picture, '--out-dir', str(out), *(
            ('--score-thr', '0.05') if kind != 'upernet' else ()))
        evaluation = json.loads(Path(f'work_{ending}/evaluation.json').read_text())
        figures.append([row['measured'] for row in evaluation['figures']])
        found.append((json.loads((out / 'predictions.json').read_text()).get('annotations', []),
                      [np.array(Image.open(file)) for file in sorted(out.rglob('*.png'))]))
    assert len(figures[0]) == number
    np.testing.assert_allclose(*(np.array(rows, float) for rows in figures), atol=.01)
    # A detector's picture; a segmentor's picture and map.
    assert len(found[0][1]) == len(found[1][1]) == (2 if kind == 'upernet' else 1)
    assert all((one != other).mean() < 1e-3 for one, other in zip(found[0][1], found[1][1]))
    assert len(found[0][0]) == len(found[1][0]) == (0 if kind == 'upernet' else 20)
    for one, other in zip(found[0][0], found[1][0]):
        assert one['category_id'] == other['category_id'] and one['score'] == pytest.approx(other['score'], abs=1e-3)
        assert one['bbox'] == pytest.approx(other['bbox'], abs=.01)


@pytest.fixture(scope='module')
def facts(tmp_path_factory):
    """The facts of a file, ready to be compared with configs."""
    cfg = Config.fromfile(ROOT / 'configs/upernet/convnext_t_512_160k.py')
    return json.loads(json.dumps(describe(cfg, 'whole', outputs=('labels', 'logits'))))


@pytest.mark.parametrize(('options', 'message'), [
    ({'model.test_cfg.mode': 'whole'}, r"mode='slide', the config has 'whole'"),
    ({'model.test_cfg.crop_size': (256, 512)}, r'crop_size\.0=512, the config has 256'),
    ({'model.test_cfg.stride': (300, 341)}, r'stride\.0=341, the config has 300'),
    ({'test_dataloader.dataset.pipeline.1.scale': (1024, 512)}, r'steps\.1\.scale\.0=2048, the config has 1024'),
    ({'test_dataloader.dataset.pipeline.1.keep_ratio': False}, r'steps\.1\.keep_ratio=True, the config has False'),
    ({'model.data_preprocessor.bgr_to_rgb': False}, r'preprocessing\.bgr_to_rgb=True, the config has False'),
])
def test_config_that_contradicts_a_file_is_refused(facts, options, message):
    cfg = Config.fromfile(ROOT / 'configs/upernet/convnext_t_512_160k.py')
    check_facts('model.onnx', facts, cfg)
    cfg.merge_from_dict({'train_dataloader.dataset.pipeline': [], 'model.backbone.with_cp': True})
    check_facts('model.onnx', facts, cfg)
    cfg.merge_from_dict(options)
    with pytest.raises(UserError, match=message):
        check_facts('model.onnx', facts, cfg)


@pytest.mark.parametrize(('command', 'arguments', 'message'), [
    ('test', ('--tta',), '--tta is for checkpoints'),
    ('test', ('--precision', 'bfloat16'), '--precision bfloat16 is for checkpoints'),
    ('predict', ('.', '--precision', 'bfloat16'), '--precision bfloat16 is for checkpoints'),
    ('test', (), 'cannot be read'),
])
def test_refusal_is_one_line(tmp_path, monkeypatch, capsys, command, arguments, message):
    monkeypatch.chdir(tmp_path)
    shapes.generate_ade(tmp_path / 'data/shapes/ade', train=1, val=1, width=96, height=80)
    (tmp_path / 'model.onnx').write_text('no model')
    assert main(command, [str(ROOT / 'configs/demo/upernet.py'), 'model.onnx', *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_file_of_another_program_is_refused(tmp_path):
    import onnx
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], 'empty', [], [])), str(tmp_path / 'model.onnx'))
    with pytest.raises(UserError, match='no whole model that `convnext-mm export` wrote'):
        read_facts(tmp_path / 'model.onnx')
