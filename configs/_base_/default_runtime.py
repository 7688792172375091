"""What detectors, segmentors and classifiers share around training and testing."""
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    layer_rates=dict(type='convnext_mm.LayerRateHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'))
# Loads strictly and saves what every torch reads safely, under mm's own tools too.
custom_hooks = [dict(type='convnext_mm.SafeCheckpointHook')]
# Imported with the config, as an inferencer reads its file before it builds anything.
custom_imports = dict(imports=['convnext_mm.checkpoint_hook'])
env_cfg = dict(
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
# For another backend beside the local files: --cfg-options visualizer.vis_backends.1.type=WandbVisBackend
visualizer = dict(
    vis_backends=[dict(type='LocalVisBackend'), dict(type='convnext_mm.TensorboardVisBackend')], name='visualizer')
log_level = 'INFO'
load_from = None
resume = False

# Share of the training samples that may be passed over because their files are broken; with more of them,
# `tools/train.py` stops.
max_bad_samples = 0.001
# The precision of `tools/train.py --amp`.
amp_dtype = 'float16'
