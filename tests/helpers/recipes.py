"""The recipe of a classifier, read off its config in the words of ``published/imagenet.json``."""
from mmengine.registry import TRANSFORMS, DefaultScope


def transform(loader):
    """The transform of a data loader, built."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return TRANSFORMS.build(loader.dataset.pipeline[0])


def augmentation(cfg):
    """timm's parts: crop, flip, RandAugment, tensor, normalisation, erasing."""
    return transform(cfg.train_dataloader).transform.transforms


def schedules(cfg):
    """Warm-up, None without one, and cosine; both by the step and without a gap."""
    *warm_up, cosine = cfg.param_scheduler
    for schedule in cfg.param_scheduler:
        assert schedule.by_epoch and schedule.convert_to_iter_based
    assert [s.begin for s in cfg.param_scheduler] == [0, *(s.end for s in warm_up)]
    assert cosine.end == cfg.train_cfg.max_epochs
    return (warm_up or [None])[0], cosine


def mixing(cfg, name):
    augments = (cfg.model.train_cfg or {}).get('augments')
    if augments is None:
        return 0
    assert augments.type == 'convnext_mm.datasets.transforms.MixupCutmix' and set(augments) == {
        'type', 'mixup_alpha', 'cutmix_alpha'}
    return augments[f'{name}_alpha']


def resolution(cfg):
    sides = {transform(loader).size for loader in (cfg.train_dataloader, cfg.get('val_dataloader')) if loader}
    side, = sides
    return side


def layer_decay(cfg):
    wrapper = cfg.optim_wrapper
    if 'constructor' in wrapper:
        assert wrapper.constructor == 'convnext_mm.LayerDecayOptimWrapperConstructor'
        assert set(wrapper.paramwise_cfg) == {'decay_type', 'decay_rate'}
        assert wrapper.paramwise_cfg.decay_type == 'layer_wise'
        return wrapper.paramwise_cfg.decay_rate
    assert dict(wrapper.paramwise_cfg) == dict(norm_decay_mult=0, bias_decay_mult=0, flat_decay_mult=0)
    return None


def ema_decay(cfg):
    """Also: where the weights are averaged, the best of both kinds are kept."""
    hooks = [hook for hook in cfg.custom_hooks if hook.type.endswith('EMAHook')]
    best = cfg.default_hooks.checkpoint.save_best
    if not hooks:
        assert best == ('auto' if cfg.val_cfg else None)
        return None
    hook, = hooks
    assert hook.type == 'convnext_mm.EMAHook' and best == ['accuracy/top1', 'accuracy/top1_plain']
    return 1 - hook.momentum


def evaluated(cfg):
    assert (cfg.val_cfg is None) == (cfg.test_cfg is None) == (cfg.get('val_dataloader') is None)
    return cfg.val_cfg is not None


def std(cfg):
    init = cfg.model.head.init_cfg
    assert (init.type, init.layer, init.bias) == ('Normal', 'Linear', 0)
    return init.std


#: Published field -> what a config has in its place. Numbers are compared within rounding.
FIELDS = {
    'optimizer': lambda cfg: cfg.optim_wrapper.optimizer.type,
    'betas': lambda cfg: list(cfg.optim_wrapper.optimizer.betas),
    'eps': lambda cfg: cfg.optim_wrapper.optimizer.eps,
    'lr': lambda cfg: cfg.optim_wrapper.optimizer.lr,
    'min_lr': lambda cfg: schedules(cfg)[1].eta_min_ratio * cfg.optim_wrapper.optimizer.lr,
    'batch_size': lambda cfg: cfg.auto_scale_lr.base_batch_size,
    'weight_decay': lambda cfg: cfg.optim_wrapper.optimizer.weight_decay,
    'layer_decay': layer_decay,
    'clip_grad': lambda cfg: cfg.optim_wrapper.get('clip_grad'),
    'amp': lambda cfg: cfg.optim_wrapper.type == 'AmpOptimWrapper',
    'epochs': lambda cfg: cfg.train_cfg.max_epochs,
    'warmup_epochs': lambda cfg: schedules(cfg)[0].end if schedules(cfg)[0] else 0,
    'warmup_start': lambda cfg: round(schedules(cfg)[0].start_factor, 5) if schedules(cfg)[0] else 0,
    'schedule': lambda cfg: schedules(cfg)[1].type.removesuffix('AnnealingLR').lower(),
    'schedule_unit': lambda cfg: 'optimizer step' if schedules(cfg) else '',
    'start': lambda cfg: cfg.load_from,
    'evaluated': evaluated,
    'ema_decay': ema_decay,
    'classes': lambda cfg: cfg.model.head.num_classes,
    'resolution': resolution,
    'mixup': lambda cfg: mixing(cfg, 'mixup'),
    'cutmix': lambda cfg: mixing(cfg, 'cutmix'),
    'randaugment': lambda cfg: 'rand-m{0.magnitude}-mstd{0.magnitude_std}-inc1'.format(augmentation(cfg)[2].ops[0]),
    'random_erasing': lambda cfg: augmentation(cfg)[-1].probability,
    'interpolation': lambda cfg: augmentation(cfg)[0].interpolation.value,
    'crop_scale': lambda cfg: list(augmentation(cfg)[0].scale),
    'flip': lambda cfg: augmentation(cfg)[1].p,
    'drop_last': lambda cfg: cfg.train_dataloader.drop_last,
    'label_smoothing': lambda cfg: cfg.model.head.loss.label_smooth_val,
    'head_init_scale': lambda cfg: std(cfg) / .02,
    'layer_scale_init_value': lambda cfg: cfg.model.backbone.layer_scale_init_value,
    'drop_path_rate': lambda cfg: cfg.model.backbone.get('drop_path_rate', 0),
}
