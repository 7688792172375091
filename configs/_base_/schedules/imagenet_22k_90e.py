"""90 epochs with 5 of warm-up, without validation."""
_base_ = './imagenet_300e.py'

train_cfg = dict(max_epochs=90)
val_cfg = None
test_cfg = None
warm_up, cosine = _base_.param_scheduler
param_scheduler = [dict(warm_up, end=5), dict(cosine, begin=5, end=90)]
del warm_up, cosine
