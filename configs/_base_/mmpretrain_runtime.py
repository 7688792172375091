"""The runtime of classifiers: everything is counted in epochs."""
_base_ = './default_runtime.py'

default_scope = 'mmpretrain'
default_hooks = dict(
    checkpoint=dict(interval=1, save_best='auto'),
    visualization=dict(type='VisualizationHook', enable=False))
env_cfg = dict(cudnn_benchmark=True)
visualizer = dict(type='UniversalVisualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
