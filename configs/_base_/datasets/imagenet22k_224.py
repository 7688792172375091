"""ImageNet-22K at ``data/imagenet22k/``, images of 224: a folder for each of its 21841 classes, and no validation."""
train_dataloader = dict(
    batch_size=32,
    num_workers=10,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    # The names of the classes are those of the folders.
    dataset=dict(
        type='CustomDataset', data_root='data/imagenet22k',
        pipeline=[dict(type='convnext_mm.ImageNetTrainTransform', size=224), dict(type='PackInputs')]))
