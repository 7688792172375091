"""Folders of classes are checked before a training, and image by image by ``check_data``."""
import io
import re

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from convnext_mm.apis.config import parse_options
from convnext_mm.datasets import shapes
from convnext_mm.datasets.agreement.mixing import check_mixing
from convnext_mm.datasets.preflight import check_data
from convnext_mm.datasets.scan import scan_config
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')


def config(root, **model):
    loader = {split: dict(batch_size=2, drop_last=True, dataset=dict(
        type='CustomDataset', data_root=f'{root}/{split}', pipeline=[dict(type='LoadImageFromFile')]))
        for split in ('train', 'val')}
    return Config(dict(
        default_scope='mmpretrain', train_dataloader=loader['train'], val_dataloader=loader['val'],
        model=dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=3, in_channels=8), **model)))


@pytest.fixture
def folders(tmp_path):
    init_default_scope('mmpretrain')
    shapes.generate_classes(tmp_path, train=9, val=6)
    return tmp_path


def rename(folders):
    (folders / 'val/circle').rename(folders / 'val/disc')


def strip(folders):
    for file in folders.glob('*/*/*.png'):
        file.unlink()


def flatten(folders):
    for folder in (folders / 'train').iterdir():
        folder.rename(folders / folder.name)
    (folders / 'train/a.png').write_bytes(b'')


def add(folders):
    for split in ('train', 'val'):
        (folders / split / 'star').mkdir()


def remove(folders):
    for folder in (folders / 'train').iterdir():
        folder.rename(folders / folder.name)


FAULTS = [(rename, 'val_dataloader.dataset has other class folders than train_dataloader.dataset: 1 is missing '
          '(circle), 1 is in it alone (disc)'),
          (strip, 'without images'), (flatten, 'has no folders of classes'),
          (add, 'model.head.num_classes=3'), (remove, 'a folder of images for each class')]


def test_sound_folders_pass(folders):
    check_data(config(folders, data_preprocessor=dict(num_classes=3)), ('train', 'val'))


@pytest.mark.parametrize(('harm', 'said'), FAULTS, ids=lambda value: getattr(value, '__name__', ''))
def test_what_is_wrong_is_told_before_training(folders, harm, said):
    harm(folders)
    with pytest.raises(UserError) as error:
        check_data(config(folders), ('train', 'val'))
    assert said in str(error.value) and '\n' not in str(error.value)


def test_classes_of_the_preprocessor_are_those_of_the_folders(folders):
    with pytest.raises(UserError, match='num_classes=5: set model.data_preprocessor.num_classes=3'):
        check_data(config(folders, data_preprocessor=dict(num_classes=5)), ('train',))


@pytest.mark.parametrize('number', [3, 25])
def test_an_imagenet_config_takes_other_folders_as_the_message_says(folders, number, monkeypatch):
    cfg, names = config(folders, data_preprocessor=dict(num_classes=1000)), [f'c{i}' for i in range(number)]
    cfg.model.head.num_classes = 1000
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.update(type='ImageNet', data_root=f'{folders}/data', split=split)
        for name in names:
            (folders / 'data' / split / name).mkdir(parents=True)
            Image.new('RGB', (9, 9)).save(folders / 'data' / split / name / 'a.png')
    with pytest.raises(UserError, match=f'has {number} class folders .* but .* has 1000 classes') as error:
        check_data(cfg, ('train', 'val'))
    monkeypatch.chdir(folders)
    (folders / 'FILE').write_text('\n'.join(names))
    options = [option.replace('"', '') for option in re.findall(r'[\w.]+=(?:"[^"]+"|\w+)', str(error.value))]
    cfg.merge_from_dict(parse_options([*options, options[-1].replace('train', 'val')]))
    check_data(cfg, ('train', 'val'))
    for split in ('train', 'val'):
        assert len(DATASETS.build(cfg[f'{split}_dataloader'].dataset)) == number


@pytest.mark.parametrize(('settings', 'size', 'said'), [
    (dict(probs=[.6, .6]), 2, r'probs=\[0.6, 0.6\] are no probabilities of 2 augments'),
    (dict(probs=[.6]), 2, 'are no probabilities of 2 augments'), (dict(probs=[-.1, .5]), 2, 'are no probabilities'),
    (dict(), 3, 'batch_size=3 and drop_last=True'), (dict(probs=[.4, .6]), 2, None)])
def test_mixing_that_cannot_be_is_refused(folders, settings, size, said):
    augments = [dict(type='convnext_mm.MixupCutmix'), dict(type='Mixup', alpha=.8)]
    cfg = config(folders, train_cfg=dict(augments=augments, **settings))
    cfg.train_dataloader.batch_size = size
    if said is None:
        check_mixing(cfg, ('train',))
    else:
        with pytest.raises(UserError, match=said):
            check_mixing(cfg, ('train',))


def damaged(folder):
    """Write images with faults into a class; return {file: kind of the flaw}."""
    image, content = Image.new('RGB', (40, 30), (9, 99, 200)), io.BytesIO()
    image.save(content, 'png')
    (folder / 'a.jpg').write_bytes(content.getvalue())
    (folder / 'b.png').write_bytes(content.getvalue()[:60])
    image.convert('CMYK').save(folder / 'c.jpg')
    (folder / 'd.png').write_bytes(b'')
    return {'a.jpg': 'mislabelled suffix', 'b.png': None, 'c.jpg': 'CMYK image', 'd.png': None}


def test_every_image_is_checked(folders):
    expected = damaged(folders / 'train/circle')
    (folders / 'val/void').mkdir()
    (train, val), _ = scan_config(config(folders))
    assert train.images == 9 + len(expected) and val.images == 6
    found = {finding.file.rpartition('/')[2]: finding.flaw.kind for finding in train.findings}
    assert {*found} == {*expected} and all(found[name] == kind for name, kind in expected.items() if kind)
    assert ('void', 'empty class') in [(finding.file.rpartition('/')[2], finding.flaw.kind) for finding in val.findings]
