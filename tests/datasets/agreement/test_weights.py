"""A class_weight has as many values as its loss takes."""
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.utils.errors import UserError


def decode(weights, kind='CrossEntropyLoss', head=None, **settings):
    return dict(decode_head=dict(num_classes=3, loss_decode=dict(type=kind, class_weight=weights, **settings),
                                 **(head or {})))


def box(weights, **settings):
    return dict(roi_head=dict(bbox_head=[dict(num_classes=3, loss_cls=dict(
        type='CrossEntropyLoss', class_weight=weights, **settings))]))


ROWS = [  # model -> number of values taken; None where it is right
    (decode([1., 1., 1.]), None),
    (decode([1., 1.]), 3),
    (decode((1., 1., 1., 1.)), 3),
    (decode([1., 1., 1., 1.], head=dict(out_channels=4)), None),
    (decode([1., 1., 1., 1.], 'LovaszLoss'), 3),
    (decode([1., 1., 1., 1.], 'TverskyLoss'), 3),
    (decode([1., 1.], 'OhemCrossEntropy'), 3),
    (decode([1.], use_sigmoid=True), None),
    (decode([1., 1., 1.], use_sigmoid=True), 1),
    (decode(None), None),
    (decode(.5, 'FocalLoss'), None),
    (dict(auxiliary_head=[dict(num_classes=3, loss_decode=[dict(type='CrossEntropyLoss', class_weight=[1.])])],
          decode_head={}), 3),
    (box([1., 1., 1., 1.]), None),
    (box([1., 1., 1.]), 4),
    (box([1., 1., 1.], use_sigmoid=True), None),
    (box([1., 1., 1., 1.], use_sigmoid=True), 3),
    (dict(bbox_head=dict(num_classes=3, loss_cls=dict(type='CrossEntropyLoss', class_weight=1.))), None),
    (dict(panoptic_head=dict(type='MaskFormerHead', num_things_classes=2, num_stuff_classes=1, loss_cls=dict(
        type='CrossEntropyLoss', class_weight=[1.] * 3 + [.1]))), None),
    (dict(panoptic_head=dict(type='MaskFormerHead', num_things_classes=2, num_stuff_classes=1, loss_cls=dict(
        type='CrossEntropyLoss', class_weight=[1.] * 3))), 4),
    (dict(decode_head=dict(type='Mask2FormerHead', num_classes=3, loss_cls=dict(
        type='mmdet.CrossEntropyLoss', class_weight=[1.] * 3 + [.1]))), None),
    (dict(decode_head=dict(type='Mask2FormerHead', num_classes=3, loss_cls=dict(
        type='mmdet.CrossEntropyLoss', class_weight=[1.] * 3))), 4),
]


@pytest.mark.parametrize(('model', 'takes'), ROWS)
def test_number_of_weights(model, takes):
    init_default_scope('mmengine')
    cfg = Config(dict(model=model))
    if takes is None:
        check_agreement(cfg, ('train',))
        return
    with pytest.raises(UserError, match=rf'class_weight has \d values, but .*num_classes=.* takes {takes}: set model'):
        check_agreement(cfg, ('train',))


def test_weights_of_a_file(tmp_path):
    init_default_scope('mmengine')
    np.save(tmp_path / 'weights.npy', np.ones(2))
    with pytest.raises(UserError, match='class_weight has 2 values'):
        check_agreement(Config(dict(model=decode(str(tmp_path / 'weights.npy')))), ('train',))
