"""160,000 iterations with the rate falling linearly to 0 from the first on, times a warm-up over the first 1,500."""
_base_ = './adamw.py'

optim_wrapper = dict(paramwise_cfg=dict(decay_type='stage_wise'))

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
param_scheduler = [
    # mmengine reaches a scheduler's last value one iteration before `end`.
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1501),
    dict(type='PolyLR', power=1.0, eta_min=0., by_epoch=False, begin=0, end=160001)]
