"""A class_weight has as many values as its loss takes."""
from importlib import import_module

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.datasets.agreement.weights import check_ignored_pixels
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


def runs(loss, label):
    """Whether a head of mmseg's computes a loss of four classes on a mask with a pixel of this label."""
    head = MODELS.build(dict(type='FCNHead', in_channels=4, in_index=0, channels=4, num_convs=0, concat_input=False,
                             num_classes=4, loss_decode=loss))
    labels = torch.randint(0, 4, (2, 1, 6, 5))
    labels[0, 0, 1, 1] = label
    try:
        head.loss_by_feat(torch.randn(2, 4, 6, 5), [Labels(mask) for mask in labels])
    except Exception:  # Whatever the loss raises.
        return False
    return True


class Labels:
    def __init__(self, data):
        self.gt_sem_seg = self
        self.data = data


@pytest.mark.parametrize('loss', [
    dict(type='CrossEntropyLoss', class_weight=[1., 2., 3., 4.]),
    dict(type='CrossEntropyLoss', class_weight=[1., 2., 3., 4.], avg_non_ignore=True),
    dict(type='CrossEntropyLoss'), dict(type='CrossEntropyLoss', use_sigmoid=True, class_weight=[2.]),
    dict(type='FocalLoss', class_weight=[1., 2., 3., 4.]), dict(type='FocalLoss'),
    dict(type='TverskyLoss', class_weight=[1., 2., 3., 4.]), dict(type='DiceLoss'),
    dict(type='LovaszLoss', class_weight=[1., 2., 3., 4.], reduction='none'),
    dict(type='HuasdorffDisstanceLoss', class_weight=[1., 2., 3., 4.])], ids=str)
def test_losses_that_fail_with_their_weights(loss):
    """The heads of the installed mmseg say which."""
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    import_module('mmseg.models')
    init_default_scope('mmseg')
    model = dict(decode_head=dict(num_classes=4, loss_decode=loss))
    whole, with_ignored = runs(loss, 0), runs(loss, 255)
    weighted = isinstance(loss.get('class_weight'), list)
    try:
        check_agreement(Config(dict(model=model)), ('train',))
        refused = ''
    except UserError as error:
        refused = str(error)
    assert bool(refused) == (weighted and not whole), refused
    assert ('model.decode_head.loss_decode.class_weight' in refused) == bool(refused)
    try:
        check_ignored_pixels(model, 'train_dataloader.dataset')
        refused = ''
    except UserError as error:
        refused = str(error)
    assert bool(refused) == (weighted and not with_ignored), refused
