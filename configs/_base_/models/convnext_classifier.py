"""ConvNeXt-T with the paper's classifier: pooling, LayerNorm and a linear layer behind the last stage."""
_base_ = './classifier.py'

model = dict(
    backbone=dict(type='convnext_mm.ConvNeXt', arch='tiny', out_indices=(3,), out_norms=False,
                  layer_scale_init_value=1e-6),
    neck=dict(type='convnext_mm.PooledLayerNorm', in_channels=768))
