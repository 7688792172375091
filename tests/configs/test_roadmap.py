"""The roadmap's configs: the published recipe, rates, pipelines, and models that fit together at every step."""
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from convnext_mm.apis.config import read_config
from convnext_mm.evaluation.cost import build_on_meta
from convnext_mm.models import ModernizedResNet
from convnext_mm.published.imagenet import imagenet_recipe
from convnext_mm.published.roadmap import REGIMES, STEPS
from tests.helpers import recipes
from tests.helpers.paths import ROOT

for _toolbox in ('mmdet', 'mmpretrain', 'timm'):
    pytest.importorskip(_toolbox, reason=f'the configs need {_toolbox}')

FOLDER = ROOT / 'configs/roadmap'
RECIPES = {regime: imagenet_recipe(f'imagenet/convnext_{end}_in1k.py')
           for regime, end in (('resnet50', 't'), ('resnet200', 'b'))}


#: Published field -> what a config has in its place. The design of a step has its drop path and layer scale.
FIELDS = {field: value for field, value in recipes.FIELDS.items() if field != 'ema_decay'} | {
    'layer_scale_init_value': lambda cfg: build(cfg).layer_scale_init_value,
    'drop_path_rate': lambda cfg: build(cfg).drop_path_rate,
}


def build(cfg):
    with torch.device('meta'):
        return ModernizedResNet(**{key: value for key, value in cfg.model.backbone.items() if key != 'type'}).design


@pytest.mark.parametrize('regime', REGIMES)
@pytest.mark.parametrize('field', FIELDS)
def test_the_recipe_is_the_published_one_without_the_average(regime, field):
    cfg = Config.fromfile(FOLDER / f'{regime}_imagenet.py')
    value = RECIPES[regime][field]
    assert FIELDS[field](cfg) == (pytest.approx(value) if isinstance(value, float) else value)
    assert not any('EMA' in hook.type for hook in cfg.custom_hooks)
    assert cfg.model.backbone.regime == regime and 'clip_grad' not in cfg.optim_wrapper


def test_weight_decay():
    cfg = Config.fromfile(FOLDER / 'resnet50_imagenet.py')
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    model.gamma = torch.nn.Parameter(torch.ones(8))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert sorted(group['weight_decay'] for group in wrapper.optimizer.param_groups) == [0, 0, 0, 0, .05]


def test_pipelines(tmp_path):
    cv2 = pytest.importorskip('cv2', reason='the toolboxes read images with OpenCV')
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    cfg = Config.fromfile(FOLDER / 'resnet50_imagenet.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            sample = Compose(loader.dataset.pipeline)(dict(img_path=str(tmp_path / 'a.jpg'), gt_label=1))
        assert tuple(sample['inputs'].shape) == (3, 224, 224)
    assert cfg.train_dataloader.drop_last and not cfg.val_dataloader.drop_last


def test_what_the_recipe_does_not_say():
    """The drawn shapes of `tools/roadmap.py --train`, and Mask R-CNN, a study of this project's own."""
    drawn = Config.fromfile(FOLDER / 'drawn.py')
    assert drawn.model.backbone.width_divisor == 8
    assert [drawn[f'{split}_dataloader'].sampler.shuffle for split in ('train', 'val', 'test')] == [True, False, False]
    for regime in REGIMES:
        cfg = Config.fromfile(FOLDER / f'{regime}_mask_rcnn.py')
        assert (cfg.model.backbone.regime, cfg.sync_bn) == (regime, 'torch')


@pytest.mark.parametrize('step', ['resnet', 'increase_width', 'gelu', 'separate_downsampling'])
@pytest.mark.parametrize('config', ['resnet50_imagenet', 'resnet200_imagenet', 'drawn', 'resnet50_mask_rcnn',
                                    'resnet200_mask_rcnn'])
def test_models_fit_together(config, step):
    model = build_on_meta(read_config(FOLDER / f'{config}.py', {'model.backbone.step': step})).eval()
    with torch.device('meta'), torch.no_grad():
        features = model.backbone(torch.empty(2, 3, 64, 64))
        if 'mask_rcnn' in config:
            assert [tuple(f.shape) for f in model.neck(features)] == [(2, 256, s, s) for s in (16, 8, 4, 2, 1)]
            assert all(hasattr(model.backbone, f'norm{i}') for i in range(4))
        else:
            assert tuple(model.head.fc(features[-1]).shape) == (2, 3 if config == 'drawn' else 1000)
            assert hasattr(model.backbone, 'norm3') == (step == STEPS[-1].name)
