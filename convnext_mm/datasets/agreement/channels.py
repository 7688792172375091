"""Compare the channels that pipelines yield, that the data preprocessor normalises, and that the backbone takes."""
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.model import ImgDataPreprocessor
from mmengine.registry import MODELS, TRANSFORMS

from convnext_mm.datasets.agreement.parts import Part, find_class, transforms
from convnext_mm.utils.configs import is_segmentor, type_name
from convnext_mm.utils.errors import UserError

#: Transforms that take three channels alone: they fail on others, or cut four to three without a word.
THREE_ALONE = ('PhotoMetricDistortion', 'Equalize', 'AutoContrast', 'Mosaic', 'MixUp', 'CachedMosaic', 'CachedMixUp',
               'YOLOXHSVRandomAug', 'Color')
_NAMES = ('in_channels', 'in_chans', 'in_channel', 'img_channels')
_IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
_COLOURS = 3


def check_channels(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that images have as many channels as there are means, and as the backbone takes.

    Raises:
        UserError: They have not; the message has both numbers and the config keys.
    """
    padding = cfg.model.get('data_preprocessor') or {}
    means = padding.get('mean')
    means = len(means) if isinstance(means, Sequence) else None
    _check_means(padding, means)
    for split in splits:
        for part, steps in transforms(cfg, split):
            key, number = _yielded(part, steps)
            if number is not None:
                where = f'{part.key} yields images of {number} channel{"s" * (number > 1)} ({key})'
                _check_number(cfg.model, number, means, where)


def _check_means(padding, means):
    """Stop at four means and more, where mmengine's preprocessor takes one or three."""
    kind = find_class(padding, MODELS)
    if means not in (None, 1, _COLOURS) and kind and issubclass(kind, ImgDataPreprocessor):
        raise UserError(
            f'model.data_preprocessor.mean has {means} values, but {kind.__name__} takes 1 or 3: set '
            'model.data_preprocessor.mean=None model.data_preprocessor.std=None, and add '
            "dict(type='Normalize', mean=[...], std=[...], to_rgb=False) with your values to each pipeline, before "
            'its Pack...Inputs')


def _yielded(part: Part, steps: Sequence[tuple[str, Mapping]]):
    """Return (config key that decides it, channels) of the images of a data set; a number of None where unknown.

    Raises:
        UserError: A transform does not take as many channels.
    """
    decides, number = part.key, None
    for key, step in steps:
        name, kind = type_name(step), find_class(step, TRANSFORMS)
        if name == 'LoadImageFromFile':
            decides, number = _loaded(part, key, step)
        elif number is not None and number != _COLOURS and name in THREE_ALONE:
            raise UserError(f'{key} is {name}, which takes images of 3 channels, but {decides} yields {number}: leave '
                            f'{name} out')
        elif name == 'RandomGrayscale' or not (kind and kind.__module__.startswith(('mmcv.', 'mmdet.', 'mmseg.'))) \
                or name.startswith(('Concat', 'Load', 'Albu')) and 'Annotation' not in name:
            number = None
    return decides, number


def _loaded(part, key, step):
    """Return (config key that decides it, channels) of what ``LoadImageFromFile`` yields."""
    kind = step.get('color_type', 'color')
    known = {'color': _COLOURS, 'color_ignore_orientation': _COLOURS, 'grayscale': 1}
    if kind in known and step.get('imdecode_backend', 'cv2') in (None, 'cv2', 'pillow', 'turbojpeg'):
        return f'{key}.color_type={kind}', known[kind]
    path = _first_image(part)
    if path is None:
        return key, None
    try:
        shape = TRANSFORMS.build({**step, 'to_float32': False})(dict(img_path=path))['img'].shape
    except Exception:  # A decoder may raise anything; unreadable images are found by another check.
        return key, None
    return f'{key}.color_type={kind}, {path}', shape[2] if len(shape) > 2 else 1


def _first_image(part):
    """Return the path of a local image of a data set; None if there is none."""
    prefixes = part.settings.get('data_prefix') or {}
    folder = os.path.join(part.settings.get('data_root') or '', prefixes.get('img') or prefixes.get('img_path') or '')
    if part.settings.get('backend_args') or not os.path.isdir(folder):
        return None
    most = 1000
    files = (path for path in islice(Path(folder).rglob('*'), most) if path.suffix.lower() in _IMAGES)
    return str(min(files, default='')) or None


def _check_number(model, number, means, where):
    padding = model.get('data_preprocessor') or {}
    if number > _COLOURS and padding.get('bgr_to_rgb') and not is_segmentor(model):
        raise UserError(f'{where}, of which model.data_preprocessor.bgr_to_rgb=True keeps 3: set '
                        'model.data_preprocessor.bgr_to_rgb=False')
    # Of one channel and three means, mmseg makes three channels.
    spread = is_segmentor(model) and number == 1 and means
    if means not in (None, 1, number) and not spread:
        raise UserError(f'{where}, but model.data_preprocessor.mean has {means} values: set '
                        f'model.data_preprocessor.mean and std to {number} or 1, or color_type of LoadImageFromFile')
    number = means if spread else number
    backbone = model.get('backbone') or {}
    for name in _NAMES:
        if name in backbone and backbone[name] != number:
            raise UserError(f'{where}, but model.backbone.{name}={backbone[name]}: set model.backbone.{name}={number}, '
                            'or color_type of LoadImageFromFile')
    kind = find_class(backbone, MODELS)
    taken = Part('', backbone, kind).get('in_channels')
    if isinstance(taken, int) and taken != number and not set(_NAMES) & set(backbone):
        raise UserError(f'{where}, but model.backbone.in_channels={taken}, its default: set '
                        f'model.backbone.in_channels={number}, or color_type of LoadImageFromFile')
