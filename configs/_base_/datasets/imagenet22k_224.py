"""ImageNet-22K at ``data/imagenet22k/``, images of 224: a folder for each of its 21841 classes, and no validation."""
_base_ = './imagenet_224.py'

train_dataloader = dict(
    batch_size=32,
    # The names of the classes are those of the folders.
    dataset=dict(
        _delete_=True, type='CustomDataset', data_root='data/imagenet22k',
        pipeline=_base_.train_dataloader.dataset.pipeline))
val_dataloader = None
test_dataloader = None
val_evaluator = None
test_evaluator = None
