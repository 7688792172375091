"""Channels of images, means and the backbone's in_channels agree."""
import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')
FLIP, DISTORT = dict(type='RandomFlip', prob=.5), dict(type='PhotoMetricDistortion')

ROWS = [  # channels of the files, color_type, transforms, number of means, bgr_to_rgb, in_channels -> refused
    (3, 'color', [FLIP, DISTORT], 3, True, None, None),
    (3, 'color', [FLIP], 3, True, 3, None),
    (4, 'color', [DISTORT], 3, True, 3, None),
    (3, 'color', [], 3, True, 4,
     r'3 channels \(train_.*pipeline\.0\.color_type=color\), but model\.backbone\.in_channels'
     r'=4: set model\.backbone\.in_channels=3'),
    (4, 'unchanged', [FLIP], None, False, 4, None),
    (4, 'unchanged', [FLIP], 1, False, 4, None),
    (4, 'unchanged', [FLIP], None, False, None, 'in_channels=3, its default: set model.backbone.in_channels=4'),
    (4, 'unchanged', [FLIP], 3, False, 4,
     'yields images of 4 channels .*but model.data_preprocessor.mean has 3 values'),
    (4, 'unchanged', [DISTORT], None, False, 4, r'pipeline\.1 is PhotoMetricDistortion.*3 channels, but .* yields 4'),
    (4, 'unchanged', [], 4, False, 4, 'mean has 4 values, but DetDataPreprocessor takes 1 or 3: .*Normalize'),
    (4, 'unchanged', [], None, True, 4, 'bgr_to_rgb=True keeps 3'),
    (3, 'unchanged', [DISTORT], 3, True, 3, None),
    (3, 'grayscale', [FLIP], 1, False, 1, None),
    (3, 'grayscale', [FLIP], 1, False, 3, 'yields images of 1 channel .*in_channels=3'),
    (3, 'grayscale', [FLIP], 3, False, 1, 'mean has 3 values'),
    # A transform of one's own may yield anything.
    (3, 'color', [dict(type='OneOfMyOwn')], 3, True, 5, None),
]


@pytest.mark.parametrize(('bands', 'color_type', 'steps', 'means', 'swapped', 'taken', 'refused'), ROWS)
def test_channels(tmp_path, bands, color_type, steps, means, swapped, taken, refused):
    init_default_scope('mmdet')
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, bands), np.uint8))
    values = means and [1.] * means
    cfg = Config(dict(
        model=dict(data_preprocessor=dict(type='DetDataPreprocessor', mean=values, std=values, bgr_to_rgb=swapped),
                   backbone=dict(type='convnext_mm.ConvNeXt', **({'in_channels': taken} if taken else {}))),
        train_dataloader=dict(dataset=dict(
            type='CocoDataset', data_root=str(tmp_path), data_prefix=dict(img=''),
            pipeline=[dict(type='LoadImageFromFile', color_type=color_type), *steps]))))
    if refused is None:
        check_agreement(cfg, ('train',))
        return
    with pytest.raises(UserError, match=refused):
        check_agreement(cfg, ('train',))


def test_a_segmentor_spreads_one_channel_over_three_means():
    init_default_scope('mmseg')
    cfg = Config(dict(
        model=dict(data_preprocessor=dict(type='SegDataPreProcessor', mean=[1.] * 3, std=[1.] * 3), decode_head={},
                   backbone=dict(type='convnext_mm.ConvNeXt', in_channels=3)),
        train_dataloader=dict(dataset=dict(type='BaseSegDataset', pipeline=[
            dict(type='LoadImageFromFile', color_type='grayscale')]))))
    check_agreement(cfg, ('train',))
    cfg.model.backbone.in_channels = 1
    with pytest.raises(UserError, match=r'in_channels=1: set model\.backbone\.in_channels=3'):
        check_agreement(cfg, ('train',))
