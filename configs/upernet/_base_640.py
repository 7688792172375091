"""UPerNet on ADE20K, with crops of 640: all sizes in pixels grow alike, strides are rounded down."""
_base_ = './_base_.py'

# The import stands below `_base_`: above it, mmengine would take the file for a config of its lazy syntax.
from convnext_mm.utils.sizes import scale_sizes  # noqa: E402

crop_size = scale_sizes(_base_.crop_size, 640, 512)
model = dict(data_preprocessor=dict(size=crop_size), test_cfg=scale_sizes(_base_.model.test_cfg, 640, 512))
train_dataloader = dict(dataset=dict(pipeline=scale_sizes(_base_.train_dataloader.dataset.pipeline, 640, 512)))
test_pipeline = scale_sizes(_base_.test_pipeline, 640, 512)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
tta_pipeline = scale_sizes(_base_.tta_pipeline, 640, 512)
