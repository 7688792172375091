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
from convnext_mm.utils.files import WriteError
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
        torch.manual_seed(0)
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
        f'pictures/{name}.png' for name in ('a', 'alpha', 'deep', 'grey', 'sub/a', 'turned')]
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


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason='no bfloat16 on this processor')
@pytest.mark.parametrize('kind', CONFIGS)
def test_bfloat16(kind, checkpoints, photos, tmp_path):
    found, expected = tmp_path / 'bfloat16', tmp_path / 'float32'
    for out, precision in ((found, 'bfloat16'), (expected, 'float32')):
        assert predict(CONFIGS[kind], checkpoints[kind], photos / 'a.png', '--out-dir', out, '--score-thr' if kind ==
                       'detector' else '--batch-size', 1 if kind == 'segmentor' else 0, '--precision', precision) == 0
    assert (read(found)['info'].get('precision'), read(expected)['info'].get('precision')) == ('bfloat16', None)
    if kind == 'segmentor':
        maps = [np.array(Image.open(out / read(out)['images'][0]['map'])) for out in (found, expected)]
        assert (maps[0] == maps[1]).mean() > .9
    else:
        # Random weights: scores are near 1 / 4 and rise by up to a tenth, as noise raises the highest ones.
        scores = [sorted(a['score'] for a in read(out)['annotations'])[-20:] for out in (found, expected)]
        assert scores[0] and np.allclose(*scores, rtol=.15) and scores[0] != scores[1]


@pytest.mark.parametrize(('device', 'kept'), [('cpu', [True]), ('meta', [])])
def test_freed_memory_is_kept_on_a_cpu(device, kept, checkpoints, photos, tmp_path, monkeypatch):
    class Reached(Exception):
        """Nothing behind the call matters here."""

    def stop(*_):
        raise Reached
    found = []
    monkeypatch.setattr(command, 'keep_freed_memory', lambda: found.append(True))
    monkeypatch.setattr(command, 'Predictor', stop)
    with pytest.raises(Reached):
        predict(CONFIGS['detector'], checkpoints['detector'], photos, '--out-dir', tmp_path, '--device', device)
    assert found == kept


def test_score_threshold(checkpoints, photos, tmp_path):
    def scores(threshold):
        predict(CONFIGS['detector'], checkpoints['detector'], photos / 'a.png', '--out-dir', tmp_path,
                '--score-thr', threshold)
        return [a['score'] for a in read(tmp_path)['annotations']]

    every = scores(0)
    middle = float(np.median(every))
    assert scores(.4) == [s for s in every if s >= .4]
    assert scores(middle) == [s for s in every if s >= middle] != every


@pytest.mark.parametrize(('kind', 'arguments', 'message'), [
    ('detector', ['--batch-size', '0'], '--batch-size must be 1 or more, got 0'),
    ('detector', ['--score-thr', '1.5'], '--score-thr must be from 0 to 1, got 1.5'),
    ('detector', ['--score-thr', 'nan'], '--score-thr must be from 0 to 1, got nan'),
    ('segmentor', ['--score-thr', '.5'], '--score-thr is for detectors'),
    ('detector', ['--precision', 'bfloat16'], 'this processor has no instructions for it'),
    ('detector', ['--device', 'toaster'], "--device 'toaster' cannot be used here"),
    ('detector', ['--out-dir', 'photos/a.png'], "--out-dir 'photos/a.png"),
    ('segmentor', ['--cfg-options', 'model.decode_head.type=NoHead'], 'the model of the config cannot be built: KeyE'),
    ('detector', [''], "input '' has no images"),
    ('detector', ['gone*.jpg'], "input 'gone*.jpg' is no file, and matches none")])
def test_mistakes(kind, arguments, message, checkpoints, photos, capsys, monkeypatch):
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: False)
    assert predict(CONFIGS[kind], checkpoints[kind], 'photos/a.png', *arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert not (photos.parent / 'predictions').exists()


class Failing:
    """In the place of a predictor's call: fails where a batch has a certain image, or too many."""

    def __init__(self, monkeypatch, error, numbers=(), most=99):
        self.batches, self.call = [], inference.Predictor.__call__
        monkeypatch.setattr(inference.Predictor, '__call__', lambda predictor, batch: self.fail(predictor, batch))
        self.error, self.numbers, self.most = error, set(numbers), most

    def fail(self, predictor, batch):
        self.batches.append([loaded.number for loaded in batch])
        if self.numbers & set(self.batches[-1]) or len(batch) > self.most:
            raise self.error
        return self.call(predictor, batch)


@pytest.fixture
def alike(tmp_path, image):
    """Four images of one size."""
    (tmp_path / 'alike').mkdir()
    for name in 'abcd':
        Image.fromarray(image).save(tmp_path / 'alike' / f'{name}.png')
    return tmp_path / 'alike'


@pytest.mark.parametrize(('error', 'reason'), [
    (torch.cuda.OutOfMemoryError('CUDA out of memory.\nTried to allocate 2 GiB'),
     'OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB'),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "RuntimeError: DefaultCPUAllocator: can't allocate"),
    (MemoryError(), 'MemoryError in fail, tests/apis/test_predict.py:'), (AssertionError(), 'AssertionError in fail'),
    (ValueError('Expected more than 1 value per channel'), 'ValueError: Expected more')])
def test_an_image_that_fails_in_the_model_is_named_and_the_others_are_written(error, reason, checkpoints, alike,
                                                                              tmp_path, monkeypatch, capsys):
    failing = Failing(monkeypatch, error, [2])
    assert predict(CONFIGS['segmentor'], checkpoints['segmentor'], alike, '--out-dir', tmp_path / 'out',
                   '--batch-size', 3) == 1
    said = capsys.readouterr()
    assert failing.batches == [[1, 2, 3], [1], [2], [3], [4]]
    skipped, = (line for line in said.err.splitlines() if 'skipped' in line)
    assert skipped.startswith(f'{alike}/b.png is skipped: the model fails on its 128 x 96 pixels: {reason}')
    assert said.out.splitlines()[-1] == f'1 of 4 images were skipped: {alike}/b.png'
    content = read(tmp_path / 'out')
    assert content['info']['skipped'] == [f'{alike}/b.png']
    assert [entry['picture'] for entry in content['images']] == [f'pictures/{name}.png' for name in 'acd']
    for folder in ('pictures', 'maps'):
        assert sorted(file.name for file in (tmp_path / 'out' / folder).iterdir()) == ['a.png', 'c.png', 'd.png']


def test_too_large_a_batch_goes_image_by_image(checkpoints, alike, tmp_path, monkeypatch):
    failing = Failing(monkeypatch, torch.cuda.OutOfMemoryError(), most=1)
    assert predict(CONFIGS['segmentor'], checkpoints['segmentor'], alike, '--out-dir', tmp_path / 'out',
                   '--batch-size', 4) == 0
    assert failing.batches == [[1, 2, 3, 4], [1], [2], [3], [4]]
    assert len(read(tmp_path / 'out')['images']) == 4


def test_an_image_that_cannot_be_drawn_is_skipped(checkpoints, alike, tmp_path, monkeypatch, capsys):
    draw, calls = command.draw_panels, []

    def fail_once(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise IndexError('class 7 has no name')
        return draw(*arguments)

    monkeypatch.setattr(command, 'draw_panels', fail_once)
    assert predict(CONFIGS['detector'], checkpoints['detector'], alike, '--out-dir', tmp_path / 'out') == 1
    assert 'b.png is skipped: IndexError: class 7 has no name' in capsys.readouterr().err
    assert {a['image_id'] for a in read(tmp_path / 'out')['annotations']} <= {1, 3, 4}


def test_a_full_disk_is_no_fault_of_an_image(checkpoints, alike, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise WriteError('pictures/a.png cannot be written: No space left on device')

    monkeypatch.setattr(command, 'write_picture', fail)
    assert predict(CONFIGS['detector'], checkpoints['detector'], alike, '--out-dir', tmp_path / 'out') == 2
    assert 'No space left' in capsys.readouterr().err.splitlines()[-1]


def write_odd_images(folder):
    """Images that are odd, but that both toolboxes can predict; return their names."""
    noise = np.random.RandomState(0).randint(0, 256, (40, 60, 3), np.uint8)
    (folder / 'sub dir').mkdir(parents=True)
    picture = Image.fromarray(noise)
    for name in ('a b.png', 'ä€.png', '[x]*.png', 'line\nbreak.png', '[bold]b.png', f'{"n" * 200}.png',
                 'sub dir/a b.png'):
        picture.save(folder / name)
    picture.save(folder / 'a b.jpg')
    picture.convert('CMYK').save(folder / 'cmyk.jpg')
    picture.convert('P').save(folder / 'palette.png', transparency=3)
    picture.convert('LA').save(folder / 'grey with alpha.png')
    picture.convert('1').save(folder / 'bits.png')
    Image.fromarray(noise[:1, :1]).save(folder / 'pixel.png')
    Image.fromarray(np.full((40, 60, 3), 7, np.uint8)).save(folder / 'constant.png')
    (folder / 'link.png').symlink_to('a b.png')
    (folder / 'sub dir' / 'around').symlink_to(folder)
    picture.save(folder / 'several.tif', save_all=True, append_images=[picture])
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()
                  and 'around' not in path.parts)


@pytest.mark.parametrize('kind', CONFIGS)
def test_every_odd_image_has_a_picture_of_its_own(kind, checkpoints, tmp_path, capsys):
    folder, out = tmp_path / 'odd', tmp_path / 'out'
    names = write_odd_images(folder)
    assert predict(CONFIGS[kind], checkpoints[kind], folder, '--out-dir', out, '--batch-size', 4) == 0
    images = read(out)['images']
    assert sorted(os.path.relpath(entry['file_name'], folder) for entry in images) == names
    pictures = [entry['picture'] for entry in images]
    assert len(set(pictures)) == len(names) and all((out / picture).is_file() for picture in pictures)
    assert len({entry['map'] for entry in images} if kind == 'segmentor' else set(pictures)) == len(names)
    assert 'several.tif has 2 images, of which the first is predicted' in capsys.readouterr().err


@pytest.mark.parametrize('kind', CONFIGS)
def test_a_thin_image_and_files_that_are_none_stop_nothing(kind, checkpoints, tmp_path, image, capsys):
    folder = tmp_path / 'images'
    folder.mkdir()
    for name, part in (('a.png', image), ('thin.png', np.tile(image[:1], (1, 40, 1))), ('z.png', image)):
        Image.fromarray(part).save(folder / name)
    (folder / 'b\nc.png').write_text('no image')
    (folder / 'gone.png').symlink_to('nowhere.png')
    assert predict(CONFIGS[kind], checkpoints[kind], folder, '--out-dir', tmp_path / 'out', '--batch-size', 3) == 1
    said, content = capsys.readouterr(), read(tmp_path / 'out')
    predicted = [Path(entry['file_name']).name for entry in content['images']]
    assert {'a.png', 'z.png'} <= set(predicted) <= {'a.png', 'thin.png', 'z.png'}
    skipped = [os.path.basename(name) for name in content['info']['skipped']]
    assert sorted(skipped + predicted) == ['a.png', 'b\nc.png', 'gone.png', 'thin.png', 'z.png']
    assert f'{len(skipped)} of 5 images were skipped' in said.out.splitlines()[-1]
    assert said.err.count(' is skipped: ') == len(skipped)
    assert r"b\nc.png' is skipped" in said.err, 'on one line'
