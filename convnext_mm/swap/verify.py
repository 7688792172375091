"""Try a swapped config: build its model, train it for a step and run it forward, on random images."""
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
from mmengine.registry import MODELS

from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.swap.edits import plain
from convnext_mm.swap.errors import MissingPackageError, NoKernelError, VerificationError
from convnext_mm.swap.samples import BATCH, random_batch
from convnext_mm.swap.stand_alone import fix_size, loads_masks, make_stand_alone, semantic_scale
from convnext_mm.utils.configs import type_name, walk
from convnext_mm.utils.errors import describe_error
from convnext_mm.utils.scopes import default_scope

#: Height and width of the images, tried in turn: some heads need more points than a small image has.
SIZES = ((128, 128), (224, 224), (320, 320))
#: Height and width of crops of persons.
PERSON = (256, 128)
#: Lane detectors are built for images of one size.
LANES = (320, 800)
#: Trackers that train their parts one by one.
_TRAINED_IN_PARTS = ('SORT', 'DeepSORT', 'StrongSORT')
_KERNEL = re.compile(r'(\w+?)(?:_forward|_backward)?(?:_impl)?: implementation for device cpu not found')


class Verification(NamedTuple):
    """What a trial found: sum of the losses, number of parameters of the backbones, seconds it took."""

    loss: float
    parameters: int
    seconds: float


def verify(cfg: Config, swapped: bool = True) -> Verification:
    """Build the model of a config on the CPU and train it for one step, without data, weights or network.

    Language models and teachers get random weights of their own, batches are two random images.

    Args:
        cfg (mmengine.Config): A swapped config.
        swapped (bool): Whether the model must have a ConvNeXt; False for an original config. Defaults to True.

    Returns:
        Verification: What was found.

    Raises:
        VerificationError: What does not work, and where; NoKernelError and MissingPackageError among them.
    """
    started = time.monotonic()
    if _scope(cfg) and util.find_spec(_scope(cfg)) is None:
        raise MissingPackageError('build', f'{_scope(cfg)}, whose config it is, is not installed')
    with _silent(), tempfile.TemporaryDirectory() as folder:
        settings = make_stand_alone({'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model}, Path(folder))
        sizes = [LANES] if any(type_name(node) == 'CLRHead' for _, node in walk(settings)) else SIZES
        loss, parameters = _try_sizes(cfg, settings, sizes, swapped)
        return Verification(loss, parameters, time.monotonic() - started)


def _scope(cfg):
    return cfg.get('default_scope', 'mmengine')


def _try_sizes(cfg, settings, sizes, swapped):
    """Return what ``_step`` finds at the first size; where that may be too small, at the next one.

    Where all fail, the error is that of the first, not that of a fallback.
    """
    first = None
    for size in sizes:
        try:
            return _step(cfg, settings, size, swapped)
        except VerificationError as error:
            if type(error) is not VerificationError:
                raise  # The model cannot be tried here, whatever the size.
            first = first or error
            if error.stage not in ('loss', 'prediction'):
                break
    raise first


def verify_necks(cfg: Config) -> None:
    """Train every ConvNeXt of a swapped config with the necks that read it, and nothing behind them.

    This is for a model that cannot run as a whole here, because a package is missing or by an error of its own.

    Args:
        cfg (mmengine.Config): A swapped config.

    Raises:
        VerificationError: A backbone has no neck, or they do not fit.
    """
    settings = plain(cfg.model.to_dict())
    for _, node in walk(settings):
        for key in node:
            if str(key).endswith('backbone') and type_name(node[key]) == 'ConvNeXt':
                necks = node.get(f'{key.removesuffix("backbone")}neck')
                if not necks:
                    raise VerificationError('build', 'the backbone is read by the heads themselves')
                _try_necks(node[key], [necks] if isinstance(necks, dict) else necks, _scope(cfg))


def _try_necks(backbone, necks, scope):
    """Train a backbone with its necks for a step."""
    backbone = {key: value for key, value in backbone.items() if key != 'init_cfg'}
    with _at('build'), MODELS.switch_scope_and_registry(scope) as registry:
        model = revert_sync_batchnorm(torch.nn.Sequential(*(registry.build(part) for part in (backbone, *necks))))
    with _at('loss'):
        maps = model.train()(torch.rand(BATCH, backbone.get('in_channels', 3), *SIZES[0]))
        loss = sum(m.square().mean() for m in (maps if isinstance(maps, (tuple, list)) else [maps]))
    with _at('gradients'):
        loss.backward()
        _check_gradients(model)


def _step(cfg, settings, size, swapped):
    """Train for a step and predict at one size; return the loss and the number of parameters of the backbones."""
    size = PERSON if type_name(settings) == 'BaseReID' else size
    batch = dict(shrink=semantic_scale(cfg), masks=loads_masks(cfg))
    in_parts = type_name(settings) in _TRAINED_IN_PARTS
    with default_scope(_scope(cfg)):
        torch.manual_seed(0)
        # Some losses ask the runner how far training is.
        MessageHub.get_current_instance().update_info_dict(dict(iter=0, epoch=0))
        with _at('build'):
            model = _build(fix_size(settings, size), _scope(cfg))
        if swapped and cfg.get('optim_wrapper'):
            with _at('optimizer'):
                _build_optimizer(model, plain(cfg.optim_wrapper))
        with _at('loss'):
            if in_parts:
                total = sum(_loss_of_part(getattr(model, name), settings[name], size)
                            for name in ('detector', 'reid') if settings.get(name))
            else:
                total = _loss(model, model.data_preprocessor(random_batch(settings, size, **batch), True))
        with _at('gradients'):
            total.backward()
            parameters = _check_gradients(model) if swapped else 0
        if not in_parts:
            with _at('prediction'):
                _predict(model, random_batch(settings, size, **batch, training=False))
    return total.item(), parameters


def _build(settings, scope):
    """Build a model with weights as its training begins with."""
    with MODELS.switch_scope_and_registry(scope) as registry:
        preprocessor = (settings.get('data_preprocessor') or {}).get('type')
        if isinstance(preprocessor, str) and registry.get(preprocessor) is None:
            import_module(f'{scope}.datasets')  # One of mmdet's is registered there.
        model = revert_sync_batchnorm(registry.build(Config(dict(model=settings)).model))
        model.init_weights()
    return model


def _build_optimizer(model, wrapper):
    """Build the optimizer as the runner does, but without mixed precision, which needs an accelerator."""
    wrapper.update(type='OptimWrapper')
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    build_optim_wrapper(model, ConfigDict(wrapper))


@contextlib.contextmanager
def _silent():
    """Suppress what models log while they are built and initialised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _at(stage):
    """Turn whatever is raised at a stage into a ``VerificationError`` of that stage."""
    try:
        yield
    except VerificationError:
        raise
    except Exception as error:  # Models raise what they like.
        text = ' '.join(str(error).split())
        kernel = _KERNEL.search(text)
        if kernel:
            raise NoKernelError(stage, kernel.group(1)) from error
        message = f'{stage}: {describe_error(error)}'
        if isinstance(error, ImportError) or 'is not installed' in text or 'lease install' in text:
            raise MissingPackageError(stage, message) from error
        raise VerificationError(stage, message) from error


def _loss(model, batch):
    """Return the sum of the losses of a model."""
    model.train()
    total, _ = model.parse_losses(model(**batch, mode='loss'))
    if not total.isfinite():
        raise ArithmeticError(f'the loss is {total.item()}')
    return total


def _loss_of_part(model, settings, size):
    """Return the loss of a part of a tracker, which has no preprocessor of its own."""
    batch = random_batch(settings, PERSON if type_name(settings) == 'BaseReID' else size)
    return _loss(model, dict(batch, inputs=torch.stack(batch['inputs']).float().flatten(0, -4) / 255))


def _check_gradients(model):
    """Make sure that all trainable parameters of all ConvNeXts have a gradient, and return the number of parameters."""
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
    """Predict, or only run forward where the toolbox cannot predict, as with a few of its heads."""
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
            try:
                model(**batch, mode='tensor')
            except Exception as later:
                # What went wrong first counts, not the fallback, unless nothing can be tried here.
                raise later if _KERNEL.search(str(later)) else error
