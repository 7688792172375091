"""COCO 2017 with boxes and masks at ``data/coco/``, 2 images a GPU."""


def short_sides(*lengths):
    return dict(type='RandomChoiceResize', scales=[(length, 1333) for length in lengths], keep_ratio=True)


def split(name, pipeline, **settings):
    return dict(
        type='CocoDataset',
        data_root='data/coco/',
        ann_file=f'annotations/instances_{name}2017.json',
        data_prefix=dict(img=f'{name}2017/'),
        pipeline=pipeline,
        **settings)


def load_annotations():
    return dict(type='LoadAnnotations', with_bbox=True, with_mask=True)


train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=split('train', filter_cfg=dict(filter_empty_gt=True, min_size=32), pipeline=[
        dict(type='LoadImageFromFile'),
        load_annotations(),
        dict(type='RandomFlip', prob=0.5),
        # DETR's: the whole image, or a crop of it after an intermediate resize.
        dict(type='RandomChoice', transforms=[
            [short_sides(*range(480, 801, 32))],
            [short_sides(400, 500, 600),
             dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
             short_sides(*range(480, 801, 32))]]),
        dict(type='PackDetInputs')]))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=split('val', test_mode=True, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(1333, 800), keep_ratio=True),
        load_annotations(),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric', ann_file='data/coco/annotations/instances_val2017.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
