"""The configs of the project, made small enough for a test."""

from convnext_mm.utils.sizes import scale_sizes

ARCH = dict(depths=(1, 1, 1, 1), channels=(8, 16, 24, 32))


def shrink(cfg):
    """The same config for an iteration or two of a small model on small images."""
    cfg.model = _narrow(cfg.model)
    if cfg.model.backbone.type == 'convnext_mm.ModernizedResNet':
        cfg.model.backbone.width_divisor = 12
        cfg.model.neck.in_channels = [channels // 12 for channels in cfg.model.neck.in_channels]
    else:
        cfg.model.backbone.arch = ARCH
        if cfg.model.type == 'ImageClassifier':
            cfg.model.neck.in_channels = cfg.model.head.in_channels = ARCH['channels'][-1]
        elif 'neck' in cfg.model:
            cfg.model.neck.in_channels = [ARCH['channels'][i] for i in cfg.model.backbone.get('out_indices', range(4))]
    cfg.model.backbone.pop('init_cfg', None)
    if 'decode_head' in cfg.model:
        cfg.model.decode_head.in_channels = list(ARCH['channels'])
        cfg.model.auxiliary_head.in_channels = ARCH['channels'][2]
        cfg.model.data_preprocessor.size = scale_sizes(cfg.model.data_preprocessor.size, 1, 8)
        cfg.model.test_cfg = scale_sizes(cfg.model.test_cfg, 1, 8)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.pipeline = scale_sizes(loader.dataset.pipeline, 1, 8)
    for pipeline in ('test_pipeline', 'tta_pipeline'):
        if pipeline in cfg:
            cfg[pipeline] = scale_sizes(cfg[pipeline], 1, 8)
    length = 'max_epochs' if 'max_epochs' in cfg.train_cfg else 'max_iters'
    cfg.train_cfg.update({length: 1, 'val_interval': 1})
    cfg.default_hooks.logger.interval = 1
    return cfg


def _narrow(node):
    """A model with its wide layers narrow."""
    if isinstance(node, dict):
        return type(node)((key, 16 if key.endswith('channels') and value in (256, 512, 1024) else _narrow(value))
                          for key, value in node.items())
    return [_narrow(value) for value in node] if isinstance(node, list) else node
