"""36 epochs, the rate divided by 10 after 27 and 33; warm-up over the first 500 iterations."""
_base_ = './adamw.py'

optim_wrapper = dict(paramwise_cfg=dict(decay_type='layer_wise'))

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=36, val_interval=1)
param_scheduler = [
    # mmengine reaches the full rate one iteration before `end`.
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', milestones=[27, 33], gamma=0.1)]
