"""How the paper trains its classifiers, and its isotropic models, read from ``imagenet.json``.

The file holds, by key: ``common``, what all recipes share; ``recipes``, by name, with a dict in place of a value that
depends on the size; ``configs``, the config of each recipe and size; ``isotropic``, the networks of table 2, and
``vit``, those that they are compared with; ``throughput``, images a second of ConvNeXt and of Swin; ``evaluation``, by
resolution; ``reference``, the figures of a model that the official repository gives for checking; ``contradictions``,
where the paper and the repository differ. The accuracies of ConvNeXt stand in ``paper.json``.

Source: see ``source`` in the file.
"""
import json
from functools import cache
from pathlib import Path
from typing import Any

from convnext_mm.published.paper import published


@cache
def published_imagenet() -> dict:
    """Return the whole of ``imagenet.json``: one shared dict, to be read and not changed."""
    return json.loads(Path(__file__).with_name('imagenet.json').read_text(encoding='utf-8'))


def imagenet_recipe(config_path: str | Path) -> dict[str, Any] | None:
    """Return all that is published of a config of ``configs/imagenet`` or ``configs/isotropic``.

    Args:
        config_path (str | Path): Path of the config; its last two parts, ``family/leaf.py``, decide.

    Returns:
        dict | None: The fields of ``common`` and of the recipe with the values of the size; ``config``, ``arch``;
        ``start``, the short name of the weights that training starts from, or None; ``top1``, the accuracy on
        ImageNet-1K in percent, None where the model is no classifier of ImageNet-1K. None where the paper has no such
        config.
    """
    name = '/'.join(Path(config_path).parts[-2:])
    leaf = next((leaf for leaf in published_imagenet()['configs'] if leaf['config'] == name), None)
    if leaf is None:
        return None
    arch = leaf['arch']
    recipe = {field: value[arch] if isinstance(value, dict) else value
              for field, value in published_imagenet()['recipes'][leaf['recipe']].items()}
    row = {**published_imagenet()['common'], **recipe, **leaf}
    row['start'] = row['start'] and f'convnext_{arch}_{row["start"]}'
    row['top1'] = _top1(row)
    return row


def _top1(row):
    """Return the published accuracy of what a recipe trains."""
    if row['recipe'] == 'isotropic':
        return next(known['top1'] for known in published_imagenet()['isotropic'] if known['arch'] == row['arch'])
    if row['classes'] != 1000:
        return None
    pretrain = 'ImageNet-22K' if 'in22k' in (row['start'] or '') else 'ImageNet-1K'
    return next(known['top1'] for known in published()['imagenet'] if (known['arch'], known['pretrain'],
                known['resolution']) == (row['arch'], pretrain, row['resolution']))
