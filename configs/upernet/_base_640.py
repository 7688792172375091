"""UPerNet on ADE20K, with crops of 640: all sizes in pixels grow alike, strides are rounded down."""
_base_ = './_base_.py'


def grown(value):
    """``value`` with the pairs of integers in it, which are sizes, times 640 / 512."""
    if isinstance(value, dict):
        return {key: grown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [grown(item) for item in value]
    if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        return tuple(item * 640 // 512 for item in value)
    return value


crop_size = grown(_base_.crop_size)
model = dict(data_preprocessor=dict(size=crop_size), test_cfg=grown(_base_.model.test_cfg))
train_dataloader = dict(dataset=dict(pipeline=grown(_base_.train_dataloader.dataset.pipeline)))
val_dataloader = dict(dataset=dict(pipeline=grown(_base_.val_dataloader.dataset.pipeline)))
test_dataloader = val_dataloader
tta_pipeline = grown(_base_.tta_pipeline)
