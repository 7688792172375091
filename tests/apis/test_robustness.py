"""Robustness by the command: of classifiers, detectors and segmentors; what is not measured twice, and errors."""
import json
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from PIL import Image

from convnext_mm.apis import robustness as command
from convnext_mm.apis.cli import main as run_command
from convnext_mm.datasets import shapes
from convnext_mm.evaluation import corruptions, robustness
from convnext_mm.evaluation.cells import Cell
from convnext_mm.published.robustness import published_robustness
from tests.helpers.exported import build_random
from tests.helpers.instances import forget_instances
from tests.helpers.models import randomise
from tests.helpers.paths import ROOT

pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')

KNOWN = published_robustness()
SETS = {
    'imagenet-c': dict(KNOWN['sets']['imagenet-c'], corruptions=['fog', 'snow'], classes=3),
    'imagenet-r': dict(KNOWN['sets']['imagenet-r'], classes=[0, 2]), 'imagenet-a': KNOWN['sets']['imagenet-a']}
CONFIG = str(ROOT / 'configs/roadmap/drawn.py')
SMALL = ['--cfg-options', 'model.backbone.width_divisor=32', 'model.backbone.step=recipe',
         'test_dataloader.batch_size=4']


def build():
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.update(width_divisor=32, step='recipe')
    cfg.model.head.in_channels = 64
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return randomise(MODELS.build(cfg.model)).eval()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two small sets of drawn images, and the checkpoint of a random classifier."""
    for module in (command, robustness):
        monkeypatch.setattr(module, 'published_robustness', lambda: dict(KNOWN, sets=SETS))
    monkeypatch.chdir(tmp_path)
    shapes.generate_classes('shapes', train=9, val=9)
    for corruption in ('fog', 'snow'):
        for severity in range(1, 6):
            place = tmp_path / f'data/imagenet-c/{corruption}/{severity}'
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(tmp_path / 'shapes' / ('val' if severity > 3 else 'train'))
    (tmp_path / 'data/imagenet-r').mkdir()
    for name in ('circle', 'triangle'):
        (tmp_path / f'data/imagenet-r/{name}').symlink_to(tmp_path / f'shapes/val/{name}')
    torch.save(dict(state_dict=build().state_dict(), meta={}), 'model.pth')
    forget_instances()
    return tmp_path


def predict(folder, indices):
    """The same without mm: labels and predictions in the order of the folders and files."""
    model = build()
    mean, std = (torch.tensor(v)[:, None, None] for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    labels, predicted = [], []
    for label, classes in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for file in sorted(classes.glob('*.png')):
            image = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float()
            with torch.no_grad():
                scores = model.head.fc(model.backbone((image - mean)[None] / std)[0])[0]
            labels.append(indices[label])
            predicted.append(max(indices, key=lambda index: scores[index].item()))
    return labels, predicted


def test_figures_and_predictions(folder, capsys, monkeypatch):
    arguments = [CONFIG, 'model.pth', '--data', 'data', '--work-dir', 'out', '--reference', 'ConvNeXt-T', *SMALL]
    assert run_command('robustness', arguments) == 0
    said = capsys.readouterr().out
    assert re.search(r'\| ImageNet-C \| mCE \| [\d.]+ \| 53.2 \|', said)
    assert 'not there: ImageNet-A (https://people' in said and '10 of 11 done' not in said
    for name, place, indices in (('imagenet-c/fog-1', 'imagenet-c/fog/1', [0, 1, 2]),
                                 ('imagenet-c/snow-5', 'imagenet-c/snow/5', [0, 1, 2]),
                                 ('imagenet-r', 'imagenet-r', [0, 2])):
        stored = json.loads((folder / f'out/{name}.json').read_text())
        assert (stored['labels'], stored['predicted']) == predict(folder / 'data' / place, indices), name
    facts = json.loads((folder / 'out/robustness.json').read_text())
    assert set(facts['sets']) == {'imagenet-c', 'imagenet-r'} and facts['model'].startswith('model.pth (sha256 ')
    assert (folder / 'out/robustness.md').read_text().strip() in said
    # A run that was stopped predicts only what it had not.
    (folder / 'out/imagenet-c/snow-2.json').unlink()
    made, predict_cell = [], command.predict_cell
    monkeypatch.setattr(command, 'predict_cell', lambda model, cfg, cell, show: made.append(cell.name) or predict_cell(
        model, cfg, cell, show))
    forget_instances()
    assert run_command('robustness', arguments) == 0
    assert made == ['imagenet-c/snow-2'] and capsys.readouterr().out == said
    # Another model's predictions are not mixed with these.
    state = torch.load('model.pth', weights_only=True)
    state['state_dict']['head.fc.bias'] += 1
    torch.save(state, 'model.pth')
    assert run_command('robustness', arguments) == 2
    line, = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
    assert 'give another --work-dir' in line


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--data', 'nowhere'], 'nowhere holds none of imagenet-c'),
    (['--data', 'data', '--sets', 'imagenet-a'], 'imagenet-a does not exist; expected ImageNet-A'),
    (['--data', 'data', '--sets', 'imagenet-r', '--cfg-options', 'model.backbone.step=gelu',
      'model.backbone.width_divisor=32'], 'not that of regime=resnet50, step=gelu')])
def test_errors_are_one_line(folder, arguments, message, capsys):
    assert run_command('robustness', [CONFIG, 'model.pth', *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / 'work_dirs').exists()


def test_models_that_do_not_fit_are_refused(folder, monkeypatch, capsys):
    arguments = [CONFIG, 'model.pth', '--data', 'data', '--sets', 'imagenet-r', *SMALL]
    monkeypatch.setitem(SETS, 'imagenet-r', dict(SETS['imagenet-r'], classes=[0, 7]))
    assert run_command('robustness', arguments) == 2
    assert 'the model tells 3 classes; expected the 2 of imagenet-r' in capsys.readouterr().err.splitlines()[-1]
    state = torch.load('model.pth', weights_only=True)
    del state['state_dict']['head.fc.bias']
    torch.save(state, 'model.pth')
    forget_instances()
    assert run_command('robustness', arguments) == 2
    assert 'model.pth: 1 missing: head.fc.bias' in capsys.readouterr().err.splitlines()[-1]
    assert not list(folder.glob('**/imagenet-r.json'))


@pytest.mark.parametrize(('size', 'kind', 'key', 'value'), [
    (224, 'CenterCrop', 'crop_size', 224), (384, 'Resize', 'scale', (384, 384))])
def test_images_that_are_stored_cropped(size, kind, key, value):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=256, edge='short'),
                dict(type='CenterCrop', crop_size=size), dict(type='PackInputs')]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    load, middle, pack = command.transforms_for(cfg, Cell('imagenet-c', ROOT, 'fog', 1))
    assert (load.type, middle.type, middle[key], pack.type) == ('LoadImageFromFile', kind, value, 'PackInputs')
    assert command.transforms_for(cfg, Cell('imagenet-r', ROOT)) == pipeline


@pytest.mark.parametrize('size', [224, 384])
def test_recipes_see_all_of_an_image_that_is_stored_cropped(tmp_path, size):
    pytest.importorskip('timm', reason='timm is not installed')
    cfg = Config.fromfile(ROOT / 'configs/roadmap/resnet50_imagenet.py')
    cfg.test_dataloader.dataset.pipeline[0].size = size
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    step, _ = command.transforms_for(cfg, Cell('imagenet-c', ROOT, 'fog', 1))
    seen = TRANSFORMS.build(step)(dict(img_path=str(tmp_path / 'a.png')))['img'].numpy()
    wanted = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    wanted = (np.array(wanted) / 255 - (.485, .456, .406)) / (.229, .224, .225)
    np.testing.assert_allclose(seen.transpose(1, 2, 0), wanted, atol=1e-5)
    assert command.transforms_for(cfg, Cell('imagenet-r', ROOT)) == cfg.test_dataloader.dataset.pipeline


@pytest.fixture
def dense(tmp_path, monkeypatch):
    """Return a function that makes data and the checkpoint of a demo model with random weights, and its arguments."""
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    pytest.importorskip('imagecorruptions', reason='the extra "robustness" is not installed')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corruptions, 'QUICK', (('fog', 'snow'), (1, 4)))

    def make(kind):
        generate, name = (shapes.generate_coco, 'coco') if kind == 'cascade' else (shapes.generate_ade, 'ade')
        generate(f'data/shapes/{name}', train=1, val=2)
        torch.save(dict(state_dict=build_random(Config.fromfile(ROOT / f'configs/demo/{kind}.py')).state_dict(),
                        meta={}), 'model.pth')
        forget_instances()
        workers = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
        return [str(ROOT / f'configs/demo/{kind}.py'), 'model.pth', '--cfg-options', *workers, *(
            ['model.test_cfg.rcnn.score_thr=0.0', 'model.test_cfg.rcnn.max_per_img=20'] if kind == 'cascade' else [])]
    return make


@pytest.mark.parametrize(('kind', 'names'), [('upernet', ['mIoU']), ('cascade', ['box AP', 'mask AP'])])
def test_figures_on_corrupted_images(dense, tmp_path, monkeypatch, capsys, kind, names):
    arguments = [*dense(kind), '--work-dir', 'out']
    assert run_command('test', arguments) == 0
    tested = {row['metric']: row['measured'] for row in json.loads(
        (tmp_path / 'out/evaluation.json').read_text())['figures']}
    forget_instances()
    capsys.readouterr()
    assert run_command('robustness', [*arguments, '--quick']) == 0
    said = capsys.readouterr().out
    facts = json.loads((tmp_path / 'out/robustness.json').read_text())['figures']
    assert list(facts) == names
    for name in names:
        # On clean images, what the test finds.
        assert facts[name]['clean'] == pytest.approx(tested[name])
        values = [value for row in facts[name]['corrupted'].values() for value in row.values()]
        assert len(values) == 4 and facts[name]['mPC'] == pytest.approx(np.mean(values))
    assert Image.open('out/robustness.png').width > 300 and '| snow |' in said
    assert (tmp_path / 'out/robustness.md').read_text().strip() in said
    # A run that was stopped measures only what it had not, and finds the same.
    (tmp_path / 'out/corrupted/snow-4.json').unlink()
    made, measure_cell = [], corruptions.measure_cell
    monkeypatch.setattr(corruptions, 'measure_cell', lambda model, cfg, cell, show: made.append(cell.name) or
                        measure_cell(model, cfg, cell, show))
    forget_instances()
    assert run_command('robustness', [*arguments, '--quick']) == 0
    assert made == ['corrupted/snow-4'] and capsys.readouterr().out == said
    # Another test of the same model is not mixed with this one, nor another model with the same weights.
    for option in ('test_dataloader.dataset.indices=1', 'model.backbone.drop_path_rate=0.05'):
        assert run_command('robustness', [*arguments[:3], option, *arguments[3:], '--quick']) == 2
        assert 'give another --work-dir' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(('config', 'arguments', 'message'), [
    ('roadmap/drawn', ['--quick', '--data', 'data'], '--quick is for detectors and segmentors'),
    ('roadmap/drawn', [], '--data is missing'),
    ('demo/upernet', ['--data', 'data'], '--data is for classifiers'),
    ('demo/upernet', ['--reference', 'ConvNeXt-T'], '--reference is for classifiers'),
    ('demo/upernet', [], 'does not exist')])
def test_arguments_of_the_other_kind_are_refused(tmp_path, monkeypatch, capsys, config, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'model.pth').write_bytes(b'')
    assert run_command('robustness', [str(ROOT / f'configs/{config}.py'), 'model.pth', *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ['model.pth']
