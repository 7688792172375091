"""What reads a backbone follows an option that changes its channels."""
import pytest
from mmengine.config import Config

from convnext_mm import swap_backbone
from convnext_mm.apis.config import read_config
from convnext_mm.models import ModernizedResNet
from convnext_mm.published.roadmap import REGIMES, design_of
from convnext_mm.swap.sources import emitted
from convnext_mm.utils.errors import ArgumentValueError
from tests.helpers.paths import ROOT

FOLDER = ROOT / 'configs/roadmap'


@pytest.mark.parametrize('step', [0, 5, 6, 'separate_downsampling'])
@pytest.mark.parametrize('regime', REGIMES)
def test_channels_follow_the_step(regime, step):
    channels = list(design_of(regime, step).channels)
    options = {'model.backbone.step': step}
    cfg = read_config(FOLDER / f'{regime}_imagenet.py', options)
    assert (cfg.model.backbone.step, cfg.model.head.in_channels) == (step, channels[-1])
    cfg = read_config(FOLDER / f'{regime}_mask_rcnn.py', options)
    assert (cfg.model.backbone.step, list(cfg.model.neck.in_channels)) == (step, channels)
    # What does not read the backbone stays.
    plain = Config.fromfile(FOLDER / f'{regime}_mask_rcnn.py')
    assert cfg.model.roi_head == plain.model.roi_head and cfg.model.rpn_head == plain.model.rpn_head


def test_channels_follow_width_stages_and_regime():
    cfg = read_config(FOLDER / 'drawn.py', {'model.backbone.regime': 'resnet200', 'model.backbone.step': 2})
    assert cfg.model.head.in_channels == 84 // 8 * 32
    cfg = read_config(FOLDER / 'drawn.py', {'model.backbone.width_divisor': 4})
    assert cfg.model.head.in_channels == 192


def test_what_is_given_by_hand_stays():
    cfg = read_config(FOLDER / 'resnet50_imagenet.py', {'model.backbone.step': 0, 'model.head.in_channels': 7})
    assert cfg.model.head.in_channels == 7
    cfg = read_config(ROOT / 'configs/cascade/convnext_t_3x.py', {'model.backbone.arch': 'base'})
    assert cfg.model.neck.in_channels == [96, 192, 384, 768]


def test_a_convnext_takes_the_place_of_a_step():
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    cfg = swap_backbone(read_config(FOLDER / 'resnet50_mask_rcnn.py', {'model.backbone.step': 0}), pretrained=None)
    assert cfg.model.backbone.type == 'convnext_mm.ConvNeXt' and 'step' not in cfg.model.backbone
    assert cfg.model.neck.in_channels == [96, 192, 384, 768]


def test_an_unknown_step_is_named():
    with pytest.raises(ArgumentValueError, match="step .*resnet, recipe.*got 'wider'"):
        read_config(FOLDER / 'resnet50_imagenet.py', {'model.backbone.step': 'wider'})


@pytest.mark.parametrize('step', [0, 2, 16])
@pytest.mark.parametrize('regime', REGIMES)
def test_swap_knows_what_it_emits(regime, step):
    for settings in ({}, dict(out_indices=(1, -1)), dict(width_divisor=8)):
        model = ModernizedResNet(regime, step, **{'width_divisor': 8, **settings})
        found = emitted(dict(type='convnext_mm.ModernizedResNet', regime=regime, step=step,
                             **{'width_divisor': 8, **settings}), 'mmdet')
        assert [(f.stride, f.channels) for f in found] == [(4 * 2 ** i, model.channels[i]) for i in model.out_indices]
    assert [f.channels for f in emitted(dict(type='ModernizedResNet'), 'mmdet')] == [96, 192, 384, 768]
