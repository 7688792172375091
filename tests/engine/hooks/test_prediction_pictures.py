"""`tools/test.py --show-dir`: a picture of every tested image, in exactly the folder given, under a name of its own."""
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from PIL import Image

from convnext_mm.datasets import shapes
from convnext_mm.drawing import palette
from convnext_mm.engine.hooks import PredictionPicturesHook
from convnext_mm.utils.files import WriteError
from tests.helpers import processes
from tests.helpers.paths import ROOT
from tests.helpers.pictures import GREEN, NAMES, FakeDataset, boxes_and_masks, count, image


def show(out_dir, samples, metainfo, prefix, **settings):
    """Give samples to the hook as a test loop does."""
    hook, warnings, samples = PredictionPicturesHook(out_dir=out_dir, **settings), [], list(samples)
    dataset = FakeDataset([sample.img_path for sample in samples], metainfo=metainfo, **prefix)
    runner = Namespace(test_dataloader=Namespace(dataset=dataset), logger=Namespace(warning=warnings.append))
    hook.before_test(runner)
    for i, sample in enumerate(samples):
        hook.after_test_iter(runner, i, None, [sample])
    hook.after_test(runner)
    return warnings


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob('*') if path.is_file())


@pytest.fixture
def images(tmp_path, monkeypatch):
    """The same image under the same name in two folders; the working folder is empty."""
    for name in ('a/1.jpg', 'b/1.jpg'):
        (tmp_path / 'data' / name).parent.mkdir(parents=True)
        Image.fromarray(image()).save(tmp_path / 'data' / name)
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    return [str(tmp_path / 'data' / name / '1.jpg') for name in 'ab']


def detection(path, truth=True):
    boxes, masks = boxes_and_masks()
    found = InstanceData(bboxes=torch.tensor(boxes).float(), labels=torch.arange(3),
                         scores=torch.tensor([.9, .31, .29]), masks=torch.tensor(masks))
    true = InstanceData(bboxes=torch.tensor(boxes[:1]), labels=torch.tensor([0])) if truth else InstanceData()
    return BaseDataElement(pred_instances=found, gt_instances=true, metainfo=dict(img_path=path))


@pytest.mark.parametrize('absolute', [True, False])
def test_pictures_are_in_the_folder_given_and_keep_equal_names_apart(images, tmp_path, absolute):
    out = str(tmp_path / 'pictures') if absolute else 'pictures'
    show(out, map(detection, images), dict(classes=NAMES), dict(img=str(tmp_path / 'data')))
    assert written(out) == ['a/1.png', 'b/1.png']
    assert written(tmp_path / 'here') == ([] if absolute else ['pictures/a/1.png', 'pictures/b/1.png'])


def test_detections_are_beside_the_ground_truth(images, tmp_path):
    metainfo = dict(classes=NAMES, palette=[(200, 0, 0), (0, 0, 200), (200, 200, 0)])
    show('pictures', [detection(images[0])], metainfo, dict(img=str(tmp_path / 'data' / 'a')))
    picture = np.array(Image.open('pictures/1.png'))
    left, right = picture[34:, :655], picture[34:, 655:]
    shown = [[count(half, colour) > 500 for colour in metainfo['palette']] for half in (left, right)]
    assert shown == [[True, False, False], [True, True, False]], 'what mm draws: scores from 0.3'
    show('all', [detection(images[0])], metainfo, dict(img=str(tmp_path / 'data' / 'a')), score_thr=.2)
    assert count(np.array(Image.open('all/1.png')), (200, 200, 0)) > 500


def test_an_image_that_cannot_be_drawn_stops_nothing(images, tmp_path):
    samples = list(map(detection, images))
    samples[0].pred_instances.labels += 7
    said = show('pictures', samples, dict(classes=NAMES), dict(img=str(tmp_path / 'data')))
    assert written('pictures') == ['b/1.png']
    assert said == [f'{images[0]} has no picture: labels must be from 0 to 2, got 7 to 8',
                    f'1 of 2 images have no picture in pictures: {images[0]}']
    assert show('all', samples[1:], dict(classes=NAMES), dict(img=str(tmp_path / 'data'))) == []


def test_a_full_disk_stops_the_test(images, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError):
        show(tmp_path / 'file' / 'pictures', map(detection, images), dict(classes=NAMES), dict(img=''))


def test_without_ground_truth_there_is_the_prediction_alone(images):
    metainfo = dict(classes=NAMES, palette=[(1, 2, 3)] * 80)
    show('pictures', [detection(images[0], truth=False)], metainfo, dict(img=''))
    picture = np.array(Image.open('pictures/1.png'))
    assert picture.shape == (533, 640, 3)
    assert count(picture, palette(3)[0]) > 500, 'a palette of other classes is not used'


def test_segmentations_are_beside_the_ground_truth(images):
    true, found = torch.full((1, 160, 192), 255), torch.zeros(1, 160, 192, dtype=torch.long)
    sample = BaseDataElement(gt_sem_seg=PixelData(data=true), pred_sem_seg=PixelData(data=found),
                             metainfo=dict(img_path=images[0]))
    show('pictures', [sample], dict(classes=NAMES), dict(img_path=str(Path(images[0]).parent)))
    picture = np.array(Image.open('pictures/1.png'))
    panels = [picture[100:500, x + 20:x + 620] for x in (10, 660, 1310)]
    assert [count(panel, GREEN, 8) == panel[..., 0].size for panel in panels] == [True, True, False]


def run_test(folder, kind, count):
    """Test a demo model with random weights; in one of ``count`` connected processes."""
    import os

    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    from convnext_mm.apis.cli import main
    os.chdir(folder)
    if os.environ['RANK'] == '0':
        cfg = Config.fromfile(ROOT / f'configs/demo/{kind}.py')
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), f'{kind}.pth')
    if count > 1:
        torch.distributed.barrier()
    return main('test', [str(ROOT / f'configs/demo/{kind}.py'), f'{kind}.pth', '--work-dir', 'work', '--show-dir',
                         f'pictures/{kind}', '--launcher', 'pytorch' if count > 1 else 'none'])


@pytest.mark.parametrize(('kind', 'count', 'panels'), [('cascade', 1, 2), ('upernet', 2, 3)])
def test_every_process_of_a_test_writes_its_images(tmp_path, kind, count, panels):
    for toolbox in ('mmdet', 'mmseg'):
        pytest.importorskip(toolbox)
    generate = shapes.generate_coco if kind == 'cascade' else shapes.generate_ade
    generate(tmp_path / 'data/shapes' / ('coco' if kind == 'cascade' else 'ade'), train=1, val=3, width=96, height=80)
    assert processes.run(run_test, str(tmp_path), kind, count, count=count) == [0] * count
    names = [f'{1_000_001 + i:012d}' if kind == 'cascade' else f'shapes_val_{1 + i:08d}' for i in range(3)]
    assert written(tmp_path / 'pictures') == [f'{kind}/{name}.png' for name in names]
    assert not list((tmp_path / 'work').rglob('*.png'))
    for name in names:
        assert Image.open(tmp_path / 'pictures' / kind / f'{name}.png').width >= panels * 640
