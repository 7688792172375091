"""Whether a swapped config works: its model is built, trained for a step and run forward, on drawn images."""
import contextlib
import logging
import re
import tempfile
import time
from importlib import import_module, util
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.swap.edits import plain
from convnext_mm.swap.samples import BATCH, WORDS, draw_batch
from convnext_mm.utils.configs import type_name, walk
from convnext_mm.utils.errors import UserError

#: Height and width of the images, tried in turn: some heads want more points than a small image has, or halve it often.
SIZES = ((128, 128), (224, 224), (320, 320))
#: Of crops of persons.
PERSON = (256, 128)
#: Regions that a RoI head trains on or predicts; more of them take time and show nothing else.
REGIONS = 32
#: Lane detectors are built for images of one size.
LANES = (320, 800)
#: Trackers that train their parts one by one.
_TRAINED_IN_PARTS = ('SORT', 'DeepSORT', 'StrongSORT')
_KERNEL = re.compile(r'(\w+?)(?:_forward|_backward)?(?:_impl)?: implementation for device cpu not found')


class VerificationError(UserError):
    """A swapped model does not work; ``stage`` is build, optimizer, loss, gradients or prediction."""

    def __init__(self, stage, message):
        super().__init__(message)
        self.stage = stage


class NoKernelError(VerificationError):
    """An operator of the model has no CPU kernel; ``operator`` is its name."""

    def __init__(self, stage, operator):
        super().__init__(stage, f'{operator} has no CPU kernel: the model is built, and can be verified on a GPU only')
        self.operator = operator


class MissingPackageError(VerificationError):
    """The model needs a package that is not installed."""


class Verification(NamedTuple):
    """What was seen: sum of the losses, parameters of the backbones, seconds."""

    loss: float
    parameters: int
    seconds: float


def verify(cfg, swapped=True):
    """Build the model of a config on the CPU and train it for one step, without data, weights or network.

    Language models and teachers get random weights of their own, batches are two drawn images.

    Args:
        cfg (mmengine.Config): A swapped config.
        swapped (bool): Whether it must have a ConvNeXt; False for a config as it was. Defaults to True.

    Returns:
        Verification: What was seen.

    Raises:
        VerificationError: What does not work, and where; NoKernelError and MissingPackageError among them.
    """
    started, scope = time.monotonic(), cfg.get('default_scope') or 'mmengine'
    if util.find_spec(scope) is None:
        raise MissingPackageError('build', f'{scope}, whose config it is, is not installed')
    with _silent(), tempfile.TemporaryDirectory() as folder:
        settings = _self_contained({'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model}, Path(folder))
        sizes = [LANES] if any(type_name(node) == 'CLRHead' for _, node in walk(settings)) else SIZES
        for size in sizes[:-1]:
            try:
                return Verification(*_step(cfg, settings, size, swapped), time.monotonic() - started)
            except VerificationError as error:
                if isinstance(error, (NoKernelError, MissingPackageError)) or error.stage not in ('loss', 'prediction'):
                    raise
        return Verification(*_step(cfg, settings, sizes[-1], swapped), time.monotonic() - started)


def verify_necks(cfg):
    """Train every ConvNeXt of a swapped config with the necks that read it, and nothing behind them.

    For a model that cannot run as a whole where it is tried, for want of a package or by an error of its own.

    Args:
        cfg (mmengine.Config): A swapped config.

    Raises:
        VerificationError: A backbone has no neck, or they do not fit.
    """
    scope, settings = cfg.get('default_scope') or 'mmengine', plain(cfg.model.to_dict())
    slots = [(node, key) for _, node in walk(settings) for key in node
             if str(key).endswith('backbone') and type_name(node[key]) == 'ConvNeXt']
    for node, key in slots:
        necks = node.get(f'{key[:-len("backbone")]}neck')
        if not necks:
            raise VerificationError('build', 'the backbone is read by the heads themselves')
        node[key].pop('init_cfg', None)
        with _told('build'), MODELS.switch_scope_and_registry(scope) as registry:
            parts = [registry.build(part) for part in (node[key], *([necks] if isinstance(necks, dict) else necks))]
            model = revert_sync_batchnorm(torch.nn.Sequential(*parts))
        with _told('loss'):
            maps = model.train()(torch.rand(BATCH, node[key].get('in_channels', 3), *SIZES[0]))
            loss = sum(m.square().mean() for m in (maps if isinstance(maps, (tuple, list)) else [maps]))
        with _told('gradients'):
            loss.backward()
            _check_gradients(model)


def _step(cfg, settings, size, swapped):
    """One step of training and a forward pass at one size; the loss and the parameters of the backbones."""
    scope = cfg.get('default_scope') or 'mmengine'
    drawn = dict(shrink=_semantic_scale(cfg), masks=_has_masks(cfg))
    size = PERSON if type_name(settings) == 'BaseReID' else size
    with DefaultScope.overwrite_default_scope(scope):
        torch.manual_seed(0)
        # Some losses ask the runner how far training is.
        MessageHub.get_current_instance().update_info_dict(dict(iter=0, epoch=0))
        with _told('build'), MODELS.switch_scope_and_registry(scope) as registry:
            preprocessor = (settings.get('data_preprocessor') or {}).get('type')
            if isinstance(preprocessor, str) and registry.get(preprocessor) is None:
                import_module(f'{scope}.datasets')  # One of mmdet's is registered there.
            model = revert_sync_batchnorm(registry.build(Config(dict(model=_resized(settings, size))).model))
            model.init_weights()
        in_parts = type_name(settings) in _TRAINED_IN_PARTS
        if swapped and cfg.get('optim_wrapper'):
            with _told('optimizer'):
                _build_optimizer(model, plain(cfg.optim_wrapper))
        with _told('loss'):
            if in_parts:
                total = sum(_loss_of_part(getattr(model, name), settings[name], size)
                            for name in ('detector', 'reid') if settings.get(name))
            else:
                total = _loss(model, model.data_preprocessor(draw_batch(settings, size, **drawn), True))
        with _told('gradients'):
            total.backward()
            parameters = _check_gradients(model) if swapped else 0
        if not in_parts:
            with _told('prediction'):
                _predict(model, draw_batch(settings, size, **drawn, training=False))
    return total.item(), parameters


def _build_optimizer(model, wrapper):
    """What the runner does with ``optim_wrapper``; mixed precision needs an accelerator and changes no group."""
    wrapper.update(type='OptimWrapper')
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    build_optim_wrapper(model, ConfigDict(wrapper))


@contextlib.contextmanager
def _silent():
    """Keep what models say while they are built and initialised to themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _told(stage):
    """Turn whatever is raised at a stage into a VerificationError of it."""
    try:
        yield
    except VerificationError:
        raise
    except Exception as error:  # Models raise what they like.
        text = ' '.join(str(error).split())
        kernel = _KERNEL.search(text)
        if kernel:
            raise NoKernelError(stage, kernel.group(1)) from error
        message = f'{stage}: {type(error).__name__}: {text[:300]}'
        if isinstance(error, ImportError) or 'is not installed' in text or 'lease install' in text:
            raise MissingPackageError(stage, message) from error
        raise VerificationError(stage, message) from error


def _loss(model, batch):
    """The sum of the losses of a model."""
    model.train()
    total, _ = model.parse_losses(model(**batch, mode='loss'))
    if not total.isfinite():
        raise ArithmeticError(f'the loss is {total.item()}')
    return total


def _loss_of_part(model, settings, size):
    """The loss of a part of a tracker, which has no preprocessor of its own."""
    batch = draw_batch(settings, PERSON if type_name(settings) == 'BaseReID' else size)
    return _loss(model, dict(batch, inputs=torch.stack(batch['inputs']).float().flatten(0, -4) / 255))


def _check_gradients(model):
    """Every trainable parameter of every ConvNeXt must have got a gradient; returns how many there are."""
    backbones = [(name, module) for name, module in model.named_modules() if isinstance(module, ConvNeXt)]
    backbones = [(name, module) for name, module in backbones if any(p.requires_grad for p in module.parameters())]
    if not backbones:
        raise VerificationError('gradients', 'the model has no ConvNeXt that is trained')
    without = [f'{name}.{leaf}' for name, module in backbones for leaf, p in module.named_parameters()
               if p.requires_grad and p.grad is None]
    if without:
        raise VerificationError('gradients', f'{len(without)} parameters get no gradient: {", ".join(without[:3])}')
    return sum(p.numel() for _, module in backbones for p in module.parameters())


def _predict(model, batch):
    """Predict; where the toolbox cannot, which is so for a few of its heads, only run forward."""
    model.eval()
    preprocessor = model.data_preprocessor
    if isinstance(batch['inputs'], dict):  # Semi-supervised training has branches, prediction has not.
        batch = {key: value['sup'] for key, value in batch.items()}
        preprocessor = preprocessor.data_preprocessor
    batch = preprocessor({key: value[:1] for key, value in batch.items()}, False)
    with torch.no_grad():
        try:
            model(**batch, mode='predict')
        except Exception as error:
            if _KERNEL.search(str(error)):
                raise
            model(**batch, mode='tensor')


def _semantic_scale(cfg):
    """By how much the training pipeline shrinks semantic maps."""
    return next((node.get('scale_factor', 1) for path, node in walk(plain(cfg.get('train_dataloader') or {}))
                 if type_name(node) == 'SegRescale'), 1)


def _has_masks(cfg):
    """Whether the training pipeline loads masks: some losses take them for granted, others stumble over them."""
    # Panoptic annotations bring them unless told otherwise.
    return any(node.get('with_mask', type_name(node) == 'LoadPanopticAnnotations')
               for _, node in walk(plain(cfg.get('train_dataloader') or {})))


def _resized(settings, size):
    """Settings whose preprocessor neither pads beyond the images nor changes their size."""
    settings = plain(settings)
    for path, node in walk(settings):
        if path and path[-1] == 'data_preprocessor':
            if 'batch_augments' in node:
                node['batch_augments'] = None
            if node.get('size') is not None or node.get('size_divisor') is not None:
                node.update(size=size, size_divisor=None)
    return settings


def _self_contained(model, folder):
    """Settings of a model without weights from files: not those of the old parts, teachers or language models."""
    settings = plain(model)
    for path, node in list(walk(settings)):
        for key, value in node.items():
            if key == 'init_cfg' and 'Pretrained' in str(value) or key in ('pretrained', 'teacher_ckpt'):
                node[key] = None
        if type_name(node).endswith('Sampler') and isinstance(node.get('num'), int):
            node['num'] = min(node['num'], REGIONS)
        if isinstance(node.get('max_per_img'), int):
            node['max_per_img'] = min(node['max_per_img'], REGIONS)
        if path and path[-1] == 'language_model':
            node['name'] = _tiny_language_model(folder)
        if 'lang_model_name' in node:
            node['lang_model_name'] = _tiny_language_model(folder)
        if node.get('type') == 'MMSyncBN':  # It asks for a process group when it is built.
            node['type'] = 'BN'
        node.pop('use_autocast', None)  # Mixed precision needs an accelerator, and changes no structure.
        if type_name(node) == 'AppearanceFreeLink':
            node['checkpoint'] = None
        # Configs for inference leave out what training takes: a loss, where the default fails, and the assigner.
        if type_name(node) == 'ATSSVLFusionHead':
            node.setdefault('loss_bbox', dict(type='GIoULoss', loss_weight=2.))
        if type_name(node) == 'GroundingDINO' and not node.get('train_cfg'):
            node['train_cfg'] = dict(assigner=dict(type='HungarianAssigner', match_costs=[
                dict(type='BinaryFocalLossCost', weight=2.), dict(type='BBoxL1Cost', weight=5., box_format='xywh')]))
        if node.get('num_cp'):  # Recomputing activations takes a package, and changes no value.
            node['num_cp'] = 0
        if isinstance(node.get('teacher_config'), str):
            node['teacher_config'] = _installed(node['teacher_config'])
    return settings


def _installed(config):
    """A config that a config of mmdet's names by its place in the repository, where it lies in the distribution."""
    import mmdet
    path = Path(mmdet.__file__).parent / '.mim' / config
    return str(path) if not Path(config).exists() and path.exists() else config


def _tiny_language_model(folder):
    """A BERT of one layer that knows letters, in ``folder``; its path."""
    if not (folder / 'vocab.txt').exists():
        from transformers import BertConfig, BertModel, BertTokenizer
        letters = sorted({letter for word in WORDS for letter in word})
        vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', *letters, *('##' + x for x in letters)]
        (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
        BertTokenizer(str(folder / 'vocab.txt')).save_pretrained(folder)
        settings = BertConfig(vocab_size=len(vocabulary), num_hidden_layers=1, intermediate_size=64)
        BertModel(settings).save_pretrained(folder)
    return str(folder)
