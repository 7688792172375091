"""30 epochs with layer-wise rates for batches of 512: 16 GPUs with 32 images each. The rate follows a cosine from the
first step on, down to a share of each layer's own."""
_base_ = './imagenet_300e.py'

optim_wrapper = dict(
    constructor='convnext_mm.LayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=5e-5, weight_decay=1e-8),
    paramwise_cfg=dict(_delete_=True, decay_type='layer_wise', decay_rate=0.8))
auto_scale_lr = dict(base_batch_size=512)

train_cfg = dict(max_epochs=30)
param_scheduler = [
    # Down to 1e-6 for the head.
    dict(type='CosineAnnealingLR', eta_min_ratio=0.02, by_epoch=True, begin=0, end=30, convert_to_iter_based=True)]
