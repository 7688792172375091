"""Images that int8 is calibrated by: named or of the training set, as the graph takes them; else one line."""
import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg', reason='the config is that of a model of mmseg')

from mmengine.config import Config

from convnext_mm.apis.inference import build_dataset
from convnext_mm.datasets import shapes
from convnext_mm.export.calibration import CALIBRATED, read_calibration
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.scopes import set_default_scope
from tests.helpers.paths import ROOT


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(ROOT / 'configs/demo/upernet.py')
    set_default_scope(cfg)
    return cfg


def read(cfg, files=()):
    return read_calibration(cfg, files, build_dataset(cfg).pipeline.transforms)


def test_images_are_those_of_the_graph(cfg, tmp_path):
    shapes.generate_ade(tmp_path / 'data/shapes/ade', train=CALIBRATED + 3, val=1, width=96, height=80)
    inputs = read(cfg)
    assert len(inputs) == CALIBRATED
    # As the config's test resizes them, and the size of the result.
    assert {(image.shape, image.dtype.name, tuple(size)) for image, size in inputs} == {
        ((1, 3, 160, 192), 'uint8', (160, 192))}
    Image.new('RGB', (40, 30), (250, 120, 10)).save(tmp_path / 'named.png')
    images = [image for image, _ in read(cfg, ['named.png', 'named.png'])]
    assert len(images) == 2 and np.array_equal(images[0][0, :, 5, 5], (250, 120, 10))


@pytest.mark.parametrize(('files', 'drop', 'message'), [
    ((), False, 'give some by --images, as the training set of the config cannot be read'),
    ((), True, 'give some by --images, as the config has no train_dataloader'),
    (('one.png',), False, 'takes at least two images'),
    (('one.png', 'none.png'), False, 'none.png cannot be read as an image'),
])
def test_refusal_is_one_line(cfg, files, drop, message):
    Image.new('RGB', (40, 30)).save('one.png')
    if drop:
        cfg.pop('train_dataloader')
    with pytest.raises(UserError, match=message) as info:
        read(cfg, files)
    assert '\n' not in str(info.value)
