"""Compare what a pipeline's transforms lose with what the pipeline loads for the model."""
import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from convnext_mm.datasets.agreement.parts import transforms
from convnext_mm.utils.configs import is_segmentor, type_name, walk
from convnext_mm.utils.errors import UserError

MASKS, MAPS, EDGES, DEPTHS = 'instance masks', 'segmentation maps', 'edge maps', 'depth maps'
#: mmdet's transforms -> what they leave as it was, or fail on, while they change images and boxes.
DETECTION = {
    'Mosaic': (MASKS, MAPS), 'MixUp': (MASKS, MAPS), 'CachedMosaic': (MAPS,), 'CachedMixUp': (MAPS,),
    'RandomShift': (MASKS, MAPS), 'RandomAffine': (MASKS, MAPS), 'RandomCenterCropPad': (MASKS, MAPS),
    'CopyPaste': (MAPS,), 'CenterCrop': (MASKS,), 'Albu': (MAPS,)}
#: mmdet's transforms that fail on polygons.
BITMAPS = ('RandomErasing', 'CopyPaste', 'Expand', 'Albu')
#: mmseg's transforms that change images and maps, but leave edge maps as they were.
MOVES = ('Resize', 'RandomCrop', 'RandomFlip', 'RandomRotate', 'RandomRotFlip', 'ResizeToMultiple',
         'ResizeShortestEdge', 'RandomResize', 'RandomMosaic', 'Pad', 'CenterCrop')
SEGMENTATION = {**dict.fromkeys(MOVES, (EDGES,)),
                **dict.fromkeys(('Pad', 'CenterCrop', 'Albu'), (EDGES, DEPTHS))}
#: Transforms of albumentations that move pixels; the others change colours alone.
_SPATIAL = re.compile('Crop|Flip|Rotate|ShiftScale|Affine|Transpose|Perspective|Distortion|Elastic|Resize|RandomScale|'
                      'Pad|D4')
#: Transforms that need other samples, which MultiImageMixDataset alone gives.
MIXES = ('Mosaic', 'MixUp', 'CopyPaste', 'RandomMosaic')
#: Loader -> (setting, default) -> what it loads.
LOADS = {
    ('LoadAnnotations', 'with_mask', False): MASKS, ('LoadAnnotations', 'with_seg', False): MAPS,
    ('LoadPanopticAnnotations', 'with_mask', True): MASKS, ('LoadPanopticAnnotations', 'with_seg', True): MAPS}


class _Loaded(NamedTuple):
    """What a pipeline has loaded: what -> key of the transform, and whether masks are polygons."""

    keys: dict
    polygons: bool


def check_lost(cfg: Any, splits: Sequence[str]) -> None:
    """Make sure that no transform loses what the pipeline loads.

    Raises:
        UserError: One does; the message names it and what to use in its place.
    """
    table = SEGMENTATION if is_segmentor(cfg.model) else DETECTION
    for split in splits:
        for part, steps in transforms(cfg, split):
            loaded = _Loaded({}, False)
            for key, step in steps:
                name = type_name(step)
                if name == 'Albu' and not any(_SPATIAL.search(type_name(node)) for _, node in walk(step)):
                    continue
                lost = [what for what in table.get(name, ()) if what in loaded.keys]
                if lost:
                    raise UserError(f'{key} is {name}, which does not transform the {" and ".join(lost)} that '
                                    f'{loaded.keys[lost[0]]} makes: {_mend(name, lost, key)}')
                if name in MIXES and '.pipeline' in key and key.startswith(f'{part.key}.pipeline'):
                    raise UserError(f'{key} is {name}, which mixes several samples, but {part.key} gives one at a '
                                    'time: put it into the pipeline of a MultiImageMixDataset around that data set')
                _check_masks(name, key, step, loaded)
                loaded = _load(name, key, step, loaded)


@functools.cache
def rotates_polygons() -> bool:
    """Return whether the installed mmdet rotates polygons about the middle of the image, as it does boxes and bitmaps.

    The classic 3.3.0 turns them about the corner.
    """
    from mmdet.structures.mask import PolygonMasks
    polygon = np.array([2., 2, 4, 2, 4, 4])
    turned = PolygonMasks([[polygon]], 10, 10).rotate((10, 10), 180)
    points = np.ravel(turned.masks[0][0])
    return bool(np.abs(points - (9 - polygon)).max() < 2)


def _check_masks(name, key, step, loaded):
    """Stop at mmdet's transforms that need masks of a kind that is not loaded."""
    if loaded.polygons and name == 'Rotate' and not rotates_polygons():
        raise UserError(f'{key} is Rotate, which turns polygons about another point than the image in this version of '
                        f'mmdet, but {loaded.keys[MASKS]}.poly2mask=False makes polygons: set '
                        f'{loaded.keys[MASKS]}.poly2mask=True')
    if loaded.polygons and name in BITMAPS:
        raise UserError(f'{key} is {name}, which takes masks as bitmaps, but {loaded.keys[MASKS]}.poly2mask=False '
                        f'makes polygons: set {loaded.keys[MASKS]}.poly2mask=True')
    if name == 'Albu' and MASKS in loaded.keys and 'gt_masks' not in (step.get('keymap') or {}):
        raise UserError(f'{key} is Albu, whose keymap has no gt_masks, so that the instance masks that '
                        f'{loaded.keys[MASKS]} makes stay as they were: set {key}.keymap.gt_masks=masks')
    if name == 'CopyPaste' and MASKS not in loaded.keys and not step.get('paste_by_box'):
        raise UserError(f'{key} is CopyPaste, which needs instance masks: set with_mask=True of LoadAnnotations')
    if name == 'Expand' and MAPS in loaded.keys and step.get('seg_ignore_label') is None:
        raise UserError(f'{key} is Expand, which fills the segmentation maps that {loaded.keys[MAPS]} makes with '
                        f'seg_ignore_label, which is not given: set {key}.seg_ignore_label=255')


def _load(name, key, step, loaded):
    keys = dict(loaded.keys)
    for (loader, setting, default), what in LOADS.items():
        if name == loader and step.get(setting, default):
            keys[what] = key
    keys.update({'GenerateEdge': {EDGES: key}, 'LoadDepthAnnotation': {DEPTHS: key}}.get(name, {}))
    polygons = loaded.polygons or name == 'LoadAnnotations' and MASKS in keys and step.get('poly2mask') is False
    return _Loaded(keys, polygons)


def _mend(name, lost, key):
    if lost == [EDGES]:
        return f'put GenerateEdge behind {key}'
    if MASKS in lost and name in ('Mosaic', 'MixUp'):
        other = f'use Cached{name} in its place' if MAPS not in lost else 'leave it out'
        return f'{other}, or train without masks'
    return f'leave {name} out, or do not load the {" and ".join(lost)}'
