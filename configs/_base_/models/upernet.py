"""UPerNet with an auxiliary FCN head on the third stage, for the 150 classes of ADE20K."""
_base_ = './convnext.py'


def head(loss_weight, **settings):
    return dict(
        **settings,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=loss_weight))


model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', pad_val=0, seg_pad_val=255),
    decode_head=head(1.0, type='UPerHead', in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6), channels=512),
    auxiliary_head=head(0.4, type='FCNHead', in_index=2, channels=256, num_convs=1, concat_input=False),
    test_cfg=dict(mode='slide'))

# Multi-scale testing averages the probabilities of whole images; `tools/test.py --tta` puts `tta_test_cfg` into
# `model.test_cfg`.
tta_model = dict(type='SegTTAModel')
tta_test_cfg = dict(mode='whole')
