"""tools/predict.py: what mm itself predicts, pictures of it, and images of every kind, broken ones included."""
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convnext_mm.apis.cli import main as run_command
from convnext_mm.datasets import shapes
from convnext_mm.utils.errors import UserError
from tests.helpers.models import randomise
from tests.helpers.paths import ROOT

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'prediction needs {_toolbox}')

# They need both toolboxes.
from convnext_mm.apis import inference  # noqa: E402
from convnext_mm.apis import predict as command  # noqa: E402

CONFIGS = {'detector': ROOT / 'configs/demo/cascade.py', 'segmentor': ROOT / 'configs/demo/upernet.py'}
NAMES = ('one', 'two', 'three')


def predict(*arguments):
    """Run the tool in this process; its exit code."""
    return run_command('predict', list(map(str, arguments)))


def read(folder):
    return json.loads((folder / 'predictions.json').read_text())


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Random weights for each demo config; the detector's name other classes than its config does."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope
    folder, paths = tmp_path_factory.mktemp('checkpoints'), {}
    for kind, path in CONFIGS.items():
        cfg = Config.fromfile(path)
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
        randomise(model.backbone)
        meta = dict(dataset_meta=dict(classes=NAMES)) if kind == 'detector' else {}
        paths[kind] = folder / f'{kind}.pth'
        torch.save(dict(meta=meta, state_dict=model.state_dict()), paths[kind])
    return paths


@pytest.fixture(scope='module')
def image():
    return shapes.draw_scene(np.random.RandomState(1), 128, 96).image


@pytest.fixture
def photos(tmp_path, image):
    """One image in every form that matters, in two folders; four that are broken."""
    folder = tmp_path / 'photos'
    (folder / 'sub').mkdir(parents=True)
    picture = Image.fromarray(image)
    picture.save(folder / 'a.png')
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / 'sub' / 'a.png')
    picture.convert('L').save(folder / 'grey.png')
    picture.convert('RGBA').save(folder / 'alpha.png')
    Image.fromarray(image[..., 0].astype(np.uint16) * 257).save(folder / 'deep.png')
    turned = Image.Exif()
    turned[0x112] = 6
    picture.save(folder / 'turned.jpg', exif=turned)
    data = io.BytesIO()
    picture.save(data, 'JPEG')
    (folder / 'cut.jpg').write_bytes(data.getvalue()[:len(data.getvalue()) // 2])
    (folder / 'cut.png').write_bytes((folder / 'a.png').read_bytes()[:3000])
    (folder / 'empty.jpg').write_bytes(b'')
    (folder / 'text.jpg').write_text('no image')
    (folder / 'notes.txt').write_text('no image, and not looked at')
    return folder


GOOD = ['a.png', 'alpha.png', 'deep.png', 'grey.png', 'sub/a.png', 'turned.jpg']
BROKEN = ['cut.jpg', 'cut.png', 'empty.jpg', 'text.jpg']


@pytest.mark.parametrize('kind', CONFIGS)
def test_every_kind_of_image(kind, checkpoints, photos, tmp_path, capsys):
    out = photos / 'out'
    assert predict(CONFIGS[kind], checkpoints[kind], photos, '--out-dir', out, '--batch-size', 4) == 1
    said, content = capsys.readouterr(), read(out)
    for name in BROKEN:
        assert said.err.count(f'{photos / name} is skipped: ') == 1
    assert '4 of 10 images were skipped' in said.out
    assert content['info']['skipped'] == [str(photos / name) for name in BROKEN]
    assert [os.path.relpath(i['file_name'], photos) for i in content['images']] == GOOD
    assert [i['picture'] for i in content['images']] == [
        f'pictures/{name}.png' for name in ('a', 'alpha', 'deep', 'grey', 'a_2', 'turned')]
    assert {(i['width'], i['height']) for i in content['images'] if 'turned' not in i['file_name']} == {(128, 96)}
    turned, = (i for i in content['images'] if 'turned' in i['file_name'])
    assert (turned['width'], turned['height']) == (96, 128), 'by EXIF'
    for entry in content['images']:
        assert max(Image.open(out / entry['picture']).size) >= 640
        if kind == 'segmentor':
            index = np.array(Image.open(out / entry['map']))
            assert index.shape == (entry['height'], entry['width']) and 1 <= index.min() <= index.max() <= 4
    if kind == 'segmentor':
        assert content['categories'] == [dict(id=i + 1, name=name) for i, name in enumerate(shapes.SEMANTIC_CLASSES)]
    else:
        assert content['categories'] == [dict(id=i + 1, name=name) for i, name in enumerate(NAMES)], "the checkpoint's"
    # The folder of results lies in that of the images: a second run does not take the pictures for images.
    assert predict(CONFIGS[kind], checkpoints[kind], photos, '--out-dir', out) == 1
    assert [i['file_name'] for i in read(out)['images']] == [i['file_name'] for i in content['images']]
    assert not list(out.rglob('*.tmp'))


def test_detections_are_mmdets_own(checkpoints, photos, tmp_path):
    from mmdet.apis import inference_detector, init_detector
    from pycocotools import mask as coco_mask
    assert predict(CONFIGS['detector'], checkpoints['detector'], photos / 'a.png', '--out-dir', tmp_path,
                   '--score-thr', 0) == 0
    found = inference_detector(init_detector(str(CONFIGS['detector']), str(checkpoints['detector']), device='cpu'),
                               str(photos / 'a.png')).pred_instances.numpy()
    annotations = read(tmp_path)['annotations']
    assert len(annotations) == len(found) > 20
    boxes = np.array([a['bbox'] for a in annotations])
    boxes[:, 2:] += boxes[:, :2]
    assert boxes == pytest.approx(found.bboxes, abs=1e-3)
    assert [a['score'] for a in annotations] == pytest.approx(found.scores.tolist(), abs=1e-6)
    assert [a['category_id'] for a in annotations] == (found.labels + 1).tolist()
    assert np.array_equal([coco_mask.decode(a['segmentation']) for a in annotations], found.masks)


def test_segmentations_are_mmsegs_own(checkpoints, photos, tmp_path):
    from mmseg.apis import inference_model, init_model
    assert predict(CONFIGS['segmentor'], checkpoints['segmentor'], photos / 'a.png', '--out-dir', tmp_path) == 0
    model = init_model(str(CONFIGS['segmentor']), str(checkpoints['segmentor']), device='cpu')
    model.cfg.test_pipeline = model.cfg.test_dataloader.dataset.pipeline
    found = inference_model(model, str(photos / 'a.png')).pred_sem_seg.data[0].numpy()
    assert np.array_equal(np.array(Image.open(tmp_path / 'maps/a.png')), found + 1)
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize('kind', CONFIGS)
def test_batches_change_nothing(kind, checkpoints, photos, tmp_path):
    for size in (1, 3):
        predict(CONFIGS[kind], checkpoints[kind], photos, '--out-dir', tmp_path / str(size), '--batch-size', size)
    one, three = read(tmp_path / '1'), read(tmp_path / '3')
    assert one['images'] == three['images']
    if kind == 'detector':
        assert [a['score'] for a in one['annotations']] == pytest.approx(
            [a['score'] for a in three['annotations']], abs=1e-5)
    else:
        maps = [[np.array(Image.open(tmp_path / size / i['map'])) for i in one['images']] for size in '13']
        assert all((a == b).mean() > .999 for a, b in zip(*maps))


def test_score_threshold(checkpoints, photos, tmp_path):
    def scores(threshold):
        predict(CONFIGS['detector'], checkpoints['detector'], photos / 'a.png', '--out-dir', tmp_path,
                '--score-thr', threshold)
        return [a['score'] for a in read(tmp_path)['annotations']]

    every = scores(0)
    middle = float(np.median(every))
    assert scores(.4) == [s for s in every if s >= .4]
    assert scores(middle) == [s for s in every if s >= middle] != every


def test_inputs(photos, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / 'odd[1].png').write_bytes((photos / 'a.png').read_bytes())
    for inputs, expected in (
            (['sub'], ['sub/a.png']),
            (['*.png'], ['a.png', 'alpha.png', 'cut.png', 'deep.png', 'grey.png', 'odd[1].png']),
            (['sub/a.png', '**/a.png'], ['sub/a.png', 'a.png']), (['odd[1].png'], ['odd[1].png']),
            (['notes.txt'], ['notes.txt']), (['a.png', './a.png', str(photos / 'a.png')], ['a.png'])):
        assert [str(file) for file in command.find_images(inputs, 'out')] == expected
    for wrong in ('gone.jpg', '*.webp', 'empty'):
        (photos / 'empty').mkdir(exist_ok=True)
        with pytest.raises(UserError, match=f'input {wrong!r}'.replace('*', r'\*')):
            command.find_images(['a.png', wrong], 'out')


def test_names_never_meet():
    names = ['x/a.png', 'y/a.png', 'a_2.png', 'z/a.jpg', 'b.png']
    assert command.output_names([Path(name) for name in names]) == ['a', 'a_2', 'a_2_2', 'a_3', 'b']


@pytest.mark.parametrize(('kind', 'arguments', 'message'), [
    ('detector', ['--batch-size', '0'], '--batch-size must be 1 or more, got 0'),
    ('detector', ['--score-thr', '1.5'], '--score-thr must be from 0 to 1, got 1.5'),
    ('segmentor', ['--score-thr', '.5'], '--score-thr is for detectors'),
    ('detector', ['--device', 'toaster'], "--device 'toaster' cannot be used here"),
    ('detector', ['--out-dir', 'photos/a.png'], "--out-dir 'photos/a.png"),
    ('detector', ['gone*.jpg'], "input 'gone*.jpg' is no file, and matches none")])
def test_mistakes(kind, arguments, message, checkpoints, photos, capsys, monkeypatch):
    monkeypatch.chdir(photos.parent)
    assert predict(CONFIGS[kind], checkpoints[kind], 'photos/a.png', *arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert not (photos.parent / 'predictions').exists()


def test_too_large_a_batch(checkpoints, photos, tmp_path, monkeypatch, capsys):
    def fail(self, batch):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(inference.Predictor, '__call__', fail)
    assert predict(CONFIGS['detector'], checkpoints['detector'], photos / 'a.png', '--out-dir', tmp_path / 'out',
                   '--batch-size', 8) == 2
    assert '--batch-size 8: 1 images of 128 x 96 pixels do not fit' in capsys.readouterr().err
