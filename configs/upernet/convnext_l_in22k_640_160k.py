"""UPerNet with ConvNeXt-L from ImageNet-22K, crops of 640, in float32.

Where a GPU cannot hold it: `tools/dist_train.sh` with `--strategy fsdp`, see docs/scale-out.md.
"""
_base_ = './_base_640.py'

model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='convnext_large_in22k')),
    decode_head=dict(in_channels=[192, 384, 768, 1536]),
    auxiliary_head=dict(in_channels=768))
optim_wrapper = dict(type='OptimWrapper')
amp_dtype = 'bfloat16'  # with `tools/train.py --amp`
