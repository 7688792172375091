"""300 epochs of AdamW for batches of 4096: 32 GPUs with 128 images each. The rate follows a cosine after 20 epochs of
warm-up, both by the step."""
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    # No weight decay on what has one dimension: norms, biases, layer scales.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0))
auto_scale_lr = dict(enable=False, base_batch_size=4096)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    # From 0 on, which mmengine cannot start at.
    dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    # Down to 1e-6.
    dict(type='CosineAnnealingLR', eta_min_ratio=2.5e-4, by_epoch=True, begin=20, end=300, convert_to_iter_based=True)]
