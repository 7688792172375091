"""Whether a swapped config works: its model is built, run forward, given a loss and a backward pass, on drawn images."""
import re
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from .backbone import ConvNeXt
from .errors import UserError
from .swap_edits import plain, type_of, walk
from .swap_samples import WORDS, draw_batch

#: Height and width of the images, tried in turn: some heads divide the map more often than a small image allows.
SIZES = ((128, 128), (320, 320))
#: Trackers that train their parts one by one.
_TRAINED_IN_PARTS = ('SORT', 'DeepSORT', 'OCSORT', 'StrongSORT')
_KERNEL = re.compile(r'(\w+?)(?:_forward|_backward)?(?:_impl)?: implementation for device cpu not found')
_PACKAGE = re.compile(r"No module named '([\w.]+)'|(?:please|Please) (?:run|install) .*?(?:install )?[\"'`]?([\w-]+)")


class VerificationError(UserError):
    """A swapped model does not work; ``stage`` is ``build``, ``loss``, ``gradients`` or ``prediction``."""

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


def verify(cfg):
    """Build the model of a config on the CPU and train it for one step, without data, weights or network.

    Language models and teachers get random weights of their own, batches are two drawn images.

    Args:
        cfg (mmengine.Config): A swapped config.

    Returns:
        Verification: What was seen.

    Raises:
        VerificationError: What does not work, and where; NoKernelError and MissingPackageError among them.
    """
    started = time.monotonic()
    scope = cfg.get('default_scope') or 'mmengine'
    with tempfile.TemporaryDirectory() as folder:
        settings = _self_contained(cfg.model.to_dict(), Path(folder))
        for number, size in enumerate(SIZES):
            try:
                loss, parameters = _step(settings, scope, size, _semantic_scale(cfg))
                return Verification(loss, parameters, time.monotonic() - started)
            except VerificationError as error:
                if isinstance(error, (NoKernelError, MissingPackageError)) or error.stage in ('build', 'gradients') \
                        or number == len(SIZES) - 1:
                    raise
    return None


def _step(settings, scope, size, shrink):
    with DefaultScope.overwrite_default_scope(scope):
        torch.manual_seed(0)
        with _told('build'), MODELS.switch_scope_and_registry(scope) as registry:
            model = revert_sync_batchnorm(registry.build(plain(Config(dict(model=_resized(settings, size))).model)))
            model.init_weights()
        parts = [model]
        if type_of(settings) in _TRAINED_IN_PARTS:
            parts = [(getattr(model, name), settings[name]) for name in ('detector', 'reid') if settings.get(name)]
            losses = {}
            for part, part_settings in parts:
                part_settings = dict(part_settings, data_preprocessor=None)
                losses[type_of(part_settings)] = _train(part, part_settings, size, shrink, settings)
            total = sum(losses.values())
        else:
            total = _train(model, settings, size, shrink)
        with _told('gradients'):
            total.backward()
            parameters = _check_gradients(model)
        if not type_of(settings) in _TRAINED_IN_PARTS:
            _predict(model, settings, size, shrink)
    return total.item(), parameters


class _told:
    """Turn whatever is raised at a stage into a VerificationError of it."""

    def __init__(self, stage):
        self.stage = stage

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None or not isinstance(error, Exception) or isinstance(error, VerificationError):
            return
        text = ' '.join(str(error).split())
        kernel = _KERNEL.search(text)
        if kernel:
            raise NoKernelError(self.stage, kernel.group(1)) from error
        message = f'{self.stage}: {kind.__name__}: {text[:300]}'
        if isinstance(error, ImportError) or 'is not installed' in text or 'lease install' in text:
            raise MissingPackageError(self.stage, message) from error
        raise VerificationError(self.stage, message) from error


def _train(model, settings, size, shrink, outer=None):
    """The sum of the losses of a part of a model."""
    with _told('loss'):
        model.train()
        batch = draw_batch(settings, size, shrink)
        preprocessor = getattr(model, 'data_preprocessor', None)
        if outer is not None:
            batch['inputs'] = torch.stack(batch['inputs']).float().flatten(0, -4) / 255
        else:
            batch = preprocessor(batch, True)
        losses = model(**batch, mode='loss')
        total, _ = model.parse_losses(losses)
        if not total.isfinite():
            raise ArithmeticError(f'the loss is {total.item()}')
        return total


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


def _predict(model, settings, size, shrink):
    with _told('prediction'), torch.no_grad():
        model.eval()
        batch = draw_batch(settings, size, shrink)
        if isinstance(batch['inputs'], dict):
            batch = {key: value['sup'] for key, value in batch.items()}
            model.data_preprocessor.data_preprocessor and model.student.eval()
            batch = model.data_preprocessor.data_preprocessor(batch, False)
        else:
            batch = {key: value[:1] for key, value in batch.items()}
            batch = model.data_preprocessor(batch, False)
        model(**batch, mode='predict')


def _semantic_scale(cfg):
    """By how much the training pipeline shrinks semantic maps."""
    return next((node.get('scale_factor', 1) for path, node in walk(plain(cfg.get('train_dataloader', {})))
                 if type_of(node) == 'SegRescale'), 1)


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
    for path, node in walk(settings):
        for key, value in list(node.items()):
            if key == 'init_cfg' and 'Pretrained' in str(value) or key in ('pretrained', 'teacher_ckpt'):
                node[key] = None
        if type_of(node) == 'BertModel' and path and path[-1] == 'language_model':
            node['name'] = _tiny_language_model(folder)
            settings['language_model_name'] = settings.get('language_model_name')
    for _, node in walk(settings):
        if node.get('lang_model_name'):
            node['lang_model_name'] = _tiny_language_model(folder)
        if node.get('language_model_name', 0) is None:
            del node['language_model_name']
    return settings


def _tiny_language_model(folder):
    """A BERT of one layer that knows letters, in ``folder``; its path."""
    if not (folder / 'vocab.txt').exists():
        from transformers import BertConfig, BertModel, BertTokenizer
        letters = sorted({letter for word in WORDS for letter in word})
        vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', *letters, *('##' + x for x in letters)]
        (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
        BertTokenizer(str(folder / 'vocab.txt')).save_pretrained(folder)
        BertModel(BertConfig(vocab_size=len(vocabulary), num_hidden_layers=1, intermediate_size=64)).save_pretrained(folder)
    return str(folder)
