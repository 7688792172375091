"""UPerNet on ADE20K, with crops of 512."""
_base_ = [
    '../_base_/models/upernet.py', '../_base_/datasets/ade20k.py', '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py']

# Training pads to the crop; single-scale testing slides it by two thirds of its side.
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    test_cfg=dict(crop_size=_base_.crop_size, stride=tuple(side * 2 // 3 for side in _base_.crop_size)))

optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=dict(decay_rate=0.9))
