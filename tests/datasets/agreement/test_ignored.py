"""A segmentor's data, heads, losses, metrics and paddings ignore one value, and labels are reduced in one way."""
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmseg', reason='mmseg is not installed')
DATA, STEPS = 'train_dataloader.dataset', 'train_dataloader.dataset.pipeline'
AUXILIARY = 'model.auxiliary_head'
#: What ignores a value by default.
ALL = {'model.decode_head.ignore_index': 3, 'model.auxiliary_head.0.ignore_index': 3,
       'val_evaluator.ignore_index': 3, f'{STEPS}.2.ignore_index': 3}


def config(**changes):
    init_default_scope('mmseg')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                dict(type='RandomCrop', crop_size=(8, 8), cat_max_ratio=.75), dict(type='PackSegInputs')]
    dataset = dict(type='BaseSegDataset', metainfo=dict(classes=('a', 'b', 'c')), pipeline=pipeline)
    cfg = Config(dict(
        model=dict(data_preprocessor=dict(type='SegDataPreProcessor'),
                   decode_head=dict(num_classes=3, loss_decode=dict(type='CrossEntropyLoss')),
                   auxiliary_head=[dict(num_classes=3, loss_decode=[dict(type='CrossEntropyLoss')])]),
        train_dataloader=dict(dataset=dataset),
        val_dataloader=dict(dataset=dict(dataset, pipeline=[pipeline[0], pipeline[1], pipeline[3]])),
        val_evaluator=dict(type='IoUMetric')))
    cfg.merge_from_dict(changes)
    return cfg


ROWS = [  # changes -> what the message names; None where they agree
    ({}, None),
    ({f'{DATA}.ignore_index': 3, **ALL}, None),
    ({f'{DATA}.ignore_index': 3}, ['3 by train_dataloader.dataset.ignore_index',
                                   '255 by model.decode_head.ignore_index', 'model.auxiliary_head.0.ignore_index',
                                   f'{STEPS}.2.ignore_index',
                                   'val_evaluator.ignore_index']),
    # Several keys of the same value are named together.
    ({'model.decode_head.ignore_index': 3, f'{AUXILIARY}.0.ignore_index': 3},
     ['3 by model.decode_head.ignore_index, model.auxiliary_head.0.ignore_index', '255 by']),
    ({'val_evaluator.ignore_index': 3}, ['3 by val_evaluator.ignore_index']),
    ({f'{STEPS}.2.ignore_index': 3}, [f'3 by {STEPS}.2.ignore_index']),
    # RandomCrop looks at labels only where it limits their share.
    ({f'{STEPS}.2.ignore_index': 3, f'{STEPS}.2.cat_max_ratio': 1.}, None),
    ({'model.decode_head.loss_decode': dict(type='DiceLoss', ignore_index=3)},
     ['3 by model.decode_head.loss_decode.ignore_index']),
    ({**ALL, 'model.decode_head.loss_decode': dict(type='DiceLoss')},
     ['255 by model.decode_head.loss_decode.ignore_index']),
    # mmdet's loss of that name ignores nothing.
    ({**ALL, 'model.decode_head.loss_decode': dict(type='mmdet.DiceLoss')}, None),
    ({'model.decode_head.loss_decode': dict(type='OhemCrossEntropy', ignore_label=3)}, ['loss_decode.ignore_label']),
    # A head without a value ignores nothing.
    ({'model.decode_head.ignore_index': None}, None),
    # Paddings of masks.
    ({'model.data_preprocessor.seg_pad_val': 0, 'model.data_preprocessor.size': (8, 8)},
     ['0 by model.data_preprocessor.seg_pad_val']),
    ({'model.data_preprocessor.seg_pad_val': 0}, None),
    ({f'{STEPS}.2': dict(type='Pad', size=(8, 8), pad_val=dict(img=0, seg=0))}, [f'0 by {STEPS}.2.pad_val.seg']),
    ({f'{STEPS}.2': dict(type='Pad', size=(8, 8), pad_val=0)}, None),
    ({f'{STEPS}.2': dict(type='RandomRotate', prob=1., degree=9, seg_pad_val=0)}, ['0 by']),
    ({f'{STEPS}.2': dict(type='RandomRotate', prob=1., degree=9)}, None),
    ({f'{STEPS}.2': dict(type='BioMedical3DPad', pad_shape=(8, 8, 8))}, [f'0 by {STEPS}.2.seg_pad_val']),
    ({f'{STEPS}.2': dict(type='BioMedical3DPad', pad_shape=(8, 8, 8), seg_pad_val=255)}, None),
    # Inside of others.
    ({f'{STEPS}.2': dict(type='RandomChoice', transforms=[[dict(type='RandomRotate', prob=1., degree=9,
                                                                 seg_pad_val=0)]])},
     [f'0 by {STEPS}.2.transforms.0.0.seg_pad_val']),
    ({f'{STEPS}.2': dict(type='Albu', transforms=[dict(type='RandomCrop', ignore_index=3, cat_max_ratio=.5)])}, None),
    # What mmseg writes itself.
    ({**ALL, f'{DATA}.reduce_zero_label': True}, [f'255 by {DATA}.reduce_zero_label (always)']),
    ({f'{DATA}.reduce_zero_label': True}, None),
    # Depths have no such value.
    ({f'{STEPS}.2.ignore_index': 3, 'model.decode_head.type': 'VPDDepthHead'}, None),
    # How labels are reduced.
    ({f'{STEPS}.1.reduce_zero_label': True},
     [f'{DATA}.reduce_zero_label is False, {STEPS}.1.reduce_zero_label is True']),
    ({f'{DATA}.reduce_zero_label': True, f'{STEPS}.1.reduce_zero_label': True}, None),
    ({f'{DATA}.type': 'ADE20KDataset', f'{STEPS}.1.reduce_zero_label': True}, None),
    ({f'{DATA}.type': 'ADE20KDataset', f'{STEPS}.1.reduce_zero_label': False}, ['reduce_zero_label is True']),
    # A wrapper's pipeline.
    ({'train_dataloader.dataset': dict(type='MultiImageMixDataset', _delete_=True, dataset=dict(type='BaseSegDataset'),
                                       pipeline=[dict(type='RandomMosaic', prob=1., seg_pad_val=0)])},
     [f'0 by {STEPS}.0.seg_pad_val']),
]


@pytest.mark.parametrize(('changes', 'named'), ROWS)
def test_ignored_value(changes, named):
    cfg = config(**changes)
    if named is None:
        check_agreement(cfg, ('train', 'val'))
        return
    with pytest.raises(UserError) as caught:
        check_agreement(cfg, ('train', 'val'))
    assert all(name in str(caught.value) for name in named), caught.value
    assert '\n' not in str(caught.value)
