"""What detectors and segmentors share: the backbone, and the mean and deviation of RGB that its weights have seen."""
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(type='convnext_mm.ConvNeXt', layer_scale_init_value=1.0))
