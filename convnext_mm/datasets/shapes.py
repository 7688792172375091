"""Generated data sets: circles, squares and triangles on textured ground, in COCO's and in ADE20K's format, and in
folders by class.

With them, everything runs without a download. Pixels and annotations follow from the seed on every machine
(``datasets.scenes``), and images are lossless PNGs. Every image has a random stream of its own, keyed by seed, kind,
split and number, so training and validation images never share one, and image 7 is the same in a set of 10 and in one
of 1000.
"""
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from convnext_mm.datasets.scenes import CLASSES, MIN_SIDE, SEMANTIC_CLASSES, draw_scene, semantic_map
from convnext_mm.utils.arguments import check_integer
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import whole_folder

__all__ = ['CLASSES', 'SEMANTIC_CLASSES', 'generate_ade', 'generate_classes', 'generate_coco']

SPLITS = ('train', 'val')
#: Raised with every change of what is drawn, so that sets made before it are made anew.
VERSION = 1
MARKER = 'shapes.json'


def encode_rle(mask: np.ndarray) -> dict:
    """Return COCO's uncompressed run lengths of a mask, counted down the columns and starting with zeros.

    pycocotools, which makes compressed ones alone, is no help here, and drawing needs nothing but numpy and Pillow.

    Args:
        mask (ndarray): bool, (H, W).

    Returns:
        dict: ``size`` [H, W] and ``counts`` (list[int]).
    """
    flat = mask.ravel(order='F')
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return dict(size=list(mask.shape), counts=[0, *counts] if flat[0] else counts)


def _annotation(mask):
    """Return the segmentation, area and box (x, y, w, h; pixel edges) of a visible part."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return dict(segmentation=encode_rle(mask), area=int(mask.sum()), bbox=[int(v) for v in box], iscrowd=0)


def _stream(seed, kind, split, number):
    return np.random.RandomState([seed, ('coco', 'ade', 'classes').index(kind), SPLITS.index(split), number])


def _write_coco(folder, split, count, width, height, seed):
    images, annotations = [], []
    (folder / f'{split}2017').mkdir(parents=True)
    (folder / 'annotations').mkdir(exist_ok=True)
    for number in range(count):
        scene = draw_scene(_stream(seed, 'coco', split, number), width, height)
        image_id = SPLITS.index(split) * 1_000_000 + number + 1
        name = f'{image_id:012d}.png'
        Image.fromarray(scene.image).save(folder / f'{split}2017' / name)
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        for label, mask in zip(scene.labels, scene.masks):
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, category_id=label + 1,
                                    **_annotation(mask)))
    categories = [dict(id=i + 1, name=name, supercategory='shape') for i, name in enumerate(CLASSES)]
    content = dict(info=dict(description='drawn shapes'), images=images, annotations=annotations, categories=categories)
    (folder / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(content))


def _write_ade(folder, split, count, width, height, seed):
    name = {'train': 'training', 'val': 'validation'}[split]
    for part in ('images', 'annotations'):
        (folder / part / name).mkdir(parents=True)
    for number in range(count):
        rng = _stream(seed, 'ade', split, number)
        scene = draw_scene(rng, width, height)
        file = f'shapes_{split}_{number + 1:08d}.png'
        Image.fromarray(scene.image).save(folder / 'images' / name / file)
        Image.fromarray(semantic_map(scene, rng)).save(folder / 'annotations' / name / file)


def _write_classes(folder, split, count, width, height, seed):
    for number in range(count):
        rng = _stream(seed, 'classes', split, number)
        scene = draw_scene(rng, width, height)
        while len(set(scene.labels)) != 1:
            scene = draw_scene(rng, width, height)
        file = folder / split / CLASSES[scene.labels[0]] / f'shapes_{split}_{number + 1:08d}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(file)


def _generate(kind: str, write: Callable, root: str | Path, train: int, val: int, width: int, height: int,
              seed: int) -> bool:
    """Make a data set with ``write``, unless it is there already; return whether it was made."""
    root = Path(root).resolve()
    counts = dict(train=check_integer('train', train, 1, 999_999), val=check_integer('val', val, 1, 999_999))
    size = dict(width=check_integer('width', width, MIN_SIDE, 4096),
                height=check_integer('height', height, MIN_SIDE, 4096))
    seed = check_integer('seed', seed, 0, 2**32 - 1)
    wanted = json.dumps(dict(kind=kind, version=VERSION, seed=seed, **counts, **size))
    marker = root / MARKER
    if marker.is_file():
        if marker.read_text() == wanted:
            return False
    elif root.is_file() or root.is_dir() and any(root.iterdir()):
        raise UserError(f'root {str(root)!r} holds something other than generated shapes (it has no {MARKER}) and is '
                        'left as it is: give another folder')
    with whole_folder(root) as partial:
        for split, count in counts.items():
            write(partial, split, count, **size, seed=seed)
        (partial / MARKER).write_text(wanted)
    return True


def generate_coco(root: str | Path, train: int = 200, val: int = 40, width: int = 192, height: int = 160,
                  seed: int = 0) -> bool:
    """Make the instance data set in COCO's format and layout, unless it is there already.

    ``train2017/*.png``, ``val2017/*.png`` and ``annotations/instances_{train,val}2017.json`` with segmentation (run
    lengths), area and box of the visible part of each shape.

    Args:
        root (str | Path): Folder to make. It appears whole or not at all; one made with other arguments is replaced.
        train, val (int): Numbers of images, from 1. Default to 200 and 40.
        width, height (int): Image size in pixels, from ``MIN_SIDE`` to 4096. Default to 192 and 160.
        seed (int): From 0 to 2**32 - 1. Defaults to 0.

    Returns:
        bool: Whether it was made now.

    Raises:
        ArgumentValueError, ArgumentTypeError: Naming the argument, what it got and what it takes.
        UserError: ``root`` holds something else, which is left as it is.
    """
    return _generate('coco', _write_coco, root, train, val, width, height, seed)


def generate_ade(root: str | Path, train: int = 200, val: int = 40, width: int = 192, height: int = 160,
                 seed: int = 0) -> bool:
    """Make the semantic data set in ADE20K's format and layout, unless it is there already.

    ``images/{training,validation}/*.png`` and index PNGs of the same names in ``annotations/``: 0 unlabelled, then
    ``SEMANTIC_CLASSES`` from 1, to be read with ``reduce_zero_label=True``. Images are PNGs where ADE20K has JPEGs,
    so that no decoder changes a pixel. Arguments, return value and errors as in ``generate_coco``.
    """
    return _generate('ade', _write_ade, root, train, val, width, height, seed)


def generate_classes(root: str | Path, train: int = 600, val: int = 300, width: int = 64, height: int = 64,
                     seed: int = 0) -> bool:
    """Make a classification data set, unless it is there already: ``{train,val}/{circle,square,triangle}/*.png``.

    An image shows one to four shapes of its class. Arguments, return value and errors as in ``generate_coco``, with
    other defaults.
    """
    return _generate('classes', _write_classes, root, train, val, width, height, seed)
