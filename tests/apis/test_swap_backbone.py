"""tools/swap_backbone.py on images of four channels: what it writes keeps four means, and training would take it."""
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from mmengine.registry import init_default_scope

from convnext_mm.apis.cli import main as run_command
from convnext_mm.datasets.agreement.channels import check_channels
from convnext_mm.utils.config_files import config_folder
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmdet', reason='the tool needs mmdet')
pytest.importorskip('mmseg', reason='the model is of mmseg')
tifffile = pytest.importorskip('tifffile', reason='it writes images of four bands')

MEAN, STD = [100., 100., 100., 90.], [50., 50., 50., 40.]
BASE = """_base_ = '{folder}/fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py'
model = dict(pretrained=None, backbone=dict(in_channels=4),
             data_preprocessor=dict(mean={mean}, std={std}, bgr_to_rgb=False))
images = dict(dataset=dict(_delete_=True, type='BaseSegDataset', data_root={root!r}, img_suffix='.tif', pipeline=[
    dict(type='LoadImageFromFile', color_type='unchanged', imdecode_backend='tifffile'), dict(type='PackSegInputs')]))
train_dataloader, val_dataloader = images, images
"""


@pytest.fixture
def swap(tmp_path):
    """A function that swaps a config with these means in the preprocessor; exit code and the new config."""
    tifffile.imwrite(tmp_path / '1.tif', np.zeros((8, 8, 4), np.uint16))

    def run(mean, std):
        text = BASE.format(folder=config_folder('mmseg'), mean=mean, std=std, root=str(tmp_path))
        (tmp_path / 'mine.py').write_text(text)
        code = run_command('swap_backbone', [str(tmp_path / 'mine.py'), '--arch', 'atto', '--pretrained', 'none',
                                             '--out', str(tmp_path / 'new.py')])
        return code, Config.fromfile(tmp_path / 'new.py') if code == 0 else None
    return run


def test_four_means(swap, capsys):
    from mmseg.models import SegDataPreProcessor
    code, cfg = swap(MEAN, STD)
    if issubclass(SegDataPreProcessor, ImgDataPreprocessor):
        said = capsys.readouterr().err.splitlines()[-1]
        assert code == 2 and 'model.data_preprocessor.mean has 4 values, but SegDataPreProcessor takes 1 or 3' in said
        return
    assert (cfg.model.data_preprocessor.mean, cfg.model.data_preprocessor.std) == (MEAN, STD)
    assert not cfg.model.data_preprocessor.bgr_to_rgb and cfg.model.backbone.in_channels == 4
    # Without a scope the check knows no transform, and says nothing.
    init_default_scope('mmseg')
    check_channels(cfg, ('train', 'val'))
    cfg.train_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile')
    with pytest.raises(UserError, match='yields images of 3 channels'):
        check_channels(cfg, ('train',))


def test_four_channels_that_the_pipeline_normalises(swap):
    code, cfg = swap(None, None)
    assert code == 0 and cfg.model.backbone.in_channels == 4
    assert cfg.model.data_preprocessor.mean is cfg.model.data_preprocessor.std is None
