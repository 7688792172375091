"""The images of mm's built data sets."""
import os
from typing import Any

import numpy as np

from convnext_mm.drawing.images import to_rgb
from convnext_mm.utils.built_datasets import built_leaves
from convnext_mm.utils.errors import ArgumentValueError
from convnext_mm.utils.files import png_names


def image_folder(dataset: Any) -> str:
    """Return the folder below which all images of a data set are; empty where the data set does not tell."""
    folders = [_prefix(leaf) for leaf in built_leaves(dataset)]
    return folders[0] if len(folders) == 1 else os.path.commonpath(list(map(os.path.abspath, folders)))


def _prefix(leaf):
    prefixes = getattr(leaf, 'data_prefix', {})
    # mmdet calls the folder `img`, mmseg `img_path`.
    return prefixes.get('img') or prefixes.get('img_path') or ''


def name_pictures(dataset: Any) -> dict[str, str]:
    """Return ``{path of an image: name of its PNG}`` of a data set: paths below its folder, no two of them alike."""
    paths = (leaf.get_data_info(i)['img_path'] for leaf in built_leaves(dataset) for i in range(len(leaf)))
    return png_names(paths, image_folder(dataset))


def load_image(dataset: Any, path: str) -> np.ndarray:
    """Return an image of a data set as ``to_rgb`` gives it, read by the transforms that read it for the model.

    Raises:
        ArgumentValueError: No transform of its pipeline loads an image.
    """
    parts = list(built_leaves(dataset))
    inside = (leaf for leaf in parts if _prefix(leaf) and not os.path.relpath(path, _prefix(leaf)).startswith('..'))
    results = dict(img_path=path)
    for transform in next(inside, parts[0]).pipeline.transforms:
        if hasattr(transform, 'load_pixels'):
            return to_rgb(transform.load_pixels(path))
        results = transform(results)
        if 'img' in results:
            return to_rgb(results['img'])
    raise ArgumentValueError('dataset must have a transform that loads images, for its pictures; it has none')
