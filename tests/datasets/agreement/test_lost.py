"""A transform that loses what the pipeline loads is refused, inside of others and in wrappers too."""
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.datasets.agreement.lost import rotates_polygons
from convnext_mm.utils.errors import UserError

BOXES = dict(type='LoadAnnotations', with_bbox=True)
MASKS = dict(BOXES, with_mask=True)
MAPS = dict(BOXES, with_seg=True)
POLYGONS = dict(MASKS, poly2mask=False)
PANOPTIC = dict(type='LoadPanopticAnnotations')


def check(model, inner, outer=None, wrapper='MultiImageMixDataset'):
    init_default_scope('mmengine')
    dataset = dict(type='CocoDataset', pipeline=[dict(type='LoadImageFromFile'), *inner])
    if outer is not None:
        dataset = dict(type=wrapper, dataset=dataset, pipeline=[
            dict(type=step) if isinstance(step, str) else step for step in outer])
    check_agreement(Config(dict(model=model, train_dataloader=dict(dataset=dataset))), ('train',))


INNER = 'train_dataloader.dataset.pipeline'
DETECTION = [  # inner pipeline, outer pipeline -> refused
    ([BOXES], ['Mosaic', 'RandomAffine', 'MixUp'], None),
    ([MASKS], ['Mosaic'], 'dataset.pipeline.0 is Mosaic, which does not transform the instance masks that '
                          'train_dataloader.dataset.dataset.pipeline.1 makes: use CachedMosaic in its place'),
    ([MASKS], ['MixUp'], 'use CachedMixUp'),
    ([MAPS], ['Mosaic'], 'segmentation maps'),
    ([PANOPTIC], ['Mosaic'], 'instance masks and segmentation maps'),
    ([MASKS], ['RandomFlip', 'RandomAffine'], 'pipeline.1 is RandomAffine'),
    ([MASKS, dict(type='CachedMosaic'), dict(type='CachedMixUp')], None, None),
    ([MAPS, dict(type='CachedMosaic')], None, 'CachedMosaic'),
    ([MAPS, dict(type='CachedMixUp')], None, 'CachedMixUp'),
    ([MASKS, dict(type='RandomShift')], None, f'{INNER}.2 is RandomShift'),
    ([BOXES, dict(type='RandomShift')], None, None),
    ([MASKS, dict(type='RandomCenterCropPad')], None, 'RandomCenterCropPad'),
    ([MASKS, dict(type='RandomApply', transforms=[dict(type='RandomShift')])], None, f'{INNER}.2.transforms.0 is'),
    ([MASKS, dict(type='RandomChoice', transforms=[[dict(type='RandomFlip')], [dict(type='RandomShift')]])], None,
     f'{INNER}.2.transforms.1.0 is'),
    ([MASKS, dict(type='RandomCrop'), dict(type='MinIoURandomCrop'), dict(type='Pad')], None, None),
    # Polygons.
    ([POLYGONS, dict(type='RandomErasing')], None, f'set {INNER}.1.poly2mask=True'),
    ([MASKS, dict(type='RandomErasing')], None, None),
    ([POLYGONS, dict(type='Expand')], None, 'Expand, which takes masks as bitmaps'),
    ([POLYGONS], ['CopyPaste'], 'CopyPaste, which takes masks as bitmaps'),
    ([MASKS], ['CopyPaste'], None),
    ([BOXES], ['CopyPaste'], 'needs instance masks'),
    ([BOXES], [dict(type='CopyPaste', paste_by_box=True)], None),
    ([MAPS, dict(type='Expand')], None, 'seg_ignore_label=255'),
    ([MAPS, dict(type='Expand', seg_ignore_label=255)], None, None),
    ([MASKS, dict(type='Albu', transforms=[dict(type='VerticalFlip')], keymap=dict(img='image'))], None, 'keymap'),
    ([MASKS, dict(type='Albu', transforms=[dict(type='OneOf', transforms=[dict(type='VerticalFlip')])])], None,
     'keymap'),
    ([MAPS, dict(type='Albu', transforms=[dict(type='RGBShift'), dict(type='HueSaturationValue')])], None, None),
    ([MAPS, dict(type='Albu', transforms=[dict(type='VerticalFlip')])], None, 'segmentation maps'),
    ([MASKS, dict(type='Albu', transforms=[dict(type='VerticalFlip')], keymap=dict(gt_masks='masks'))], None, None),
    # Several samples.
    ([BOXES, dict(type='Mosaic')], None, f'{INNER}.2 is Mosaic, which mixes several samples'),
    ([BOXES, dict(type='MixUp')], ['RandomFlip'], 'dataset.dataset.pipeline.2 is MixUp, which mixes'),
]
SEGMENTATION = [
    ([dict(type='LoadAnnotations'), dict(type='RandomCrop'), dict(type='GenerateEdge')], None, None),
    ([dict(type='LoadAnnotations'), dict(type='GenerateEdge'), dict(type='RandomFlip')], None,
     f'{INNER}.3 is RandomFlip, which does not transform the edge maps that {INNER}.2 makes: put GenerateEdge behind'),
    ([dict(type='LoadAnnotations'), dict(type='GenerateEdge'), dict(type='PhotoMetricDistortion')], None, None),
    ([dict(type='LoadDepthAnnotation'), dict(type='Pad')], None, 'depth maps'),
    ([dict(type='LoadDepthAnnotation'), dict(type='RandomFlip')], None, None),
    ([dict(type='LoadDepthAnnotation'), dict(type='Albu', transforms=[dict(type='RandomGamma')])], None, None),
    ([dict(type='LoadDepthAnnotation'), dict(type='Albu', transforms=[dict(type='RandomCrop')])], None, 'depth maps'),
    ([dict(type='LoadAnnotations')], ['RandomMosaic'], None),
    ([dict(type='LoadAnnotations'), dict(type='RandomMosaic')], None, 'MultiImageMixDataset'),
]


@pytest.mark.parametrize(('model', 'inner', 'outer', 'refused'), [
    *(({}, *row) for row in DETECTION), *((dict(decode_head={}), *row) for row in SEGMENTATION)])
def test_what_a_transform_loses(model, inner, outer, refused):
    if refused is None:
        check(model, inner, outer)
        return
    with pytest.raises(UserError) as caught:
        check(model, inner, outer)
    assert refused in str(caught.value), caught.value


def test_polygons_that_are_not_rotated_as_bitmaps_are():
    """Whether they are depends on mmdet: the same square as a bitmap says it."""
    structures = pytest.importorskip('mmdet.structures.mask', reason='mmdet is not installed')
    polygons = structures.PolygonMasks([[np.array([2., 2, 8, 2, 8, 8, 2, 8])]], 30, 40)
    turned, bitmap = (mask.rotate((30, 40), 90).to_ndarray() for mask in (
        polygons, structures.BitmapMasks(polygons.to_ndarray().astype(np.uint8), 30, 40)))
    same = (turned & bitmap).sum() / (turned | bitmap).sum() > .5
    assert rotates_polygons() == same
    for step in (dict(type='Rotate'), dict(type='RandAugment'), dict(type='RandAugment', aug_space=[[dict(
            type='Rotate')]])):
        check({}, [MASKS, step])
        if same:
            check({}, [POLYGONS, step])
        elif 'aug_space' in step or step['type'] == 'Rotate':
            with pytest.raises(UserError, match='is Rotate, which turns polygons about another point .*poly2mask=True'):
                check({}, [POLYGONS, step])


def test_transforms_that_others_have_inside_by_default():
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    init_default_scope('mmdet')
    loader = dict(type='LoadImageFromFile', color_type='grayscale')
    dataset = dict(type='CocoDataset', pipeline=[loader, BOXES, dict(type='RandAugment')])
    model = dict(data_preprocessor=dict(type='DetDataPreprocessor'), backbone=dict(type='ResNet', in_channels=1))
    with pytest.raises(UserError, match=r'pipeline.2.aug_space.\d+.0 is (AutoContrast|Equalize|Color|PhotoMetric\w+), '
                                        'which takes images of 3 channels'):
        check_agreement(Config(dict(model=model, train_dataloader=dict(dataset=dataset))), ('train',))
