"""ImageNet-1K at ``data/imagenet/``, images of 384; in tests the whole image, warped to a square."""
_base_ = './imagenet_224.py'


def pipeline(transform):
    return [dict(type=f'convnext_mm.ImageNet{transform}Transform', size=384), dict(type='PackInputs')]


train_dataloader = dict(dataset=dict(pipeline=pipeline('Train')))
val_dataloader = dict(dataset=dict(pipeline=pipeline('Eval')))
test_dataloader = val_dataloader
