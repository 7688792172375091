"""ADE20K with 150 classes at ``data/ade/ADEChallengeData2016/``, crops of 512, 2 images a GPU."""
crop_size = (512, 512)
scale = (2048, 512)


def split(name, pipeline):
    return dict(
        type='ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016/',
        data_prefix=dict(img_path=f'images/{name}', seg_map_path=f'annotations/{name}'),
        reduce_zero_label=True,
        pipeline=pipeline)


train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=split('training', pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs')]))
# The annotations stay at their own size, so they are loaded after the image has been resized and flipped.
# mmseg's `inference_model` finds the pipeline by this name.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=split('validation', pipeline=test_pipeline))
test_dataloader = val_dataloader
# The official multi-scale protocol: the ratios multiply `scale`, not the size of the raw image.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=tuple(int(ratio * side) for side in scale), keep_ratio=True)
         for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)],
        [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0., 1.)],
        [dict(type='LoadAnnotations')],
        [dict(type='PackSegInputs')]])]
del scale

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
