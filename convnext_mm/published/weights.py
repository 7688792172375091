"""The published weights by short names: their address, licence and accuracy.

``weights.json`` holds the classification files; the fine-tuned detectors and segmentors, and the accuracies of
ConvNeXt, stand in ``paper.json``, those of the isotropic models in ``imagenet.json``, and are looked up there by
address. Names without ``_ema`` are the trained
weights, which the paper's detectors and segmentors start from; ``_ema`` is their moving average.
"""
import json
import posixpath
from functools import cache
from pathlib import Path
from typing import NamedTuple

from convnext_mm.published.imagenet import published_imagenet
from convnext_mm.published.paper import published


class Weights(NamedTuple):
    """One published file."""

    name: str
    url: str
    #: A key of ``ARCHS`` or ``ISOTROPIC_ARCHS``.
    arch: str
    #: What it was trained on, or a published config for the fine-tuned models.
    data: str
    #: Height and width of the images.
    resolution: tuple
    #: Classes of the head; 0 for none.
    classes: int
    licence: str
    #: Published accuracy in words; None where none belongs to this very file.
    accuracy: str | None

    @property
    def filename(self) -> str:
        """Name of the file on its server and in the cache."""
        return posixpath.basename(self.url)


@cache
def weights() -> dict[str, Weights]:
    """Return all published weights by short name: one shared dict, to be read and not changed."""
    top1 = {row['weights']: row['top1'] for row in published()['imagenet'] + published_imagenet()['isotropic']}
    rows = json.loads(Path(__file__).with_name('weights.json').read_text(encoding='utf-8'))['imagenet']
    table = {}
    for name, row in rows.items():
        accuracy = row.get('top1') or top1.get(row['url'])
        table[name] = Weights(
            name, row['url'], row['arch'], row['data'], (row['resolution'],) * 2, row['classes'], row['licence'],
            accuracy and f'{accuracy} % top-1 on ImageNet-1K')
    for row in published()['coco']:
        _add_finetuned(table, row, (800, 1333), 80, f'{row["box_ap"]} box AP, {row["mask_ap"]} mask AP on COCO')
    for row in published()['ade20k']:
        _add_finetuned(table, row, tuple(row['crop_size']), 150, f'{row["miou_single_scale"]} mIoU on ADE20K, '
                       f'{row["miou_multi_scale_flip"]} with multi-scale and flip')
    return table


def _add_finetuned(table, row, resolution, classes, accuracy):
    url = row['finetuned_weights']
    name = posixpath.splitext(posixpath.basename(url))[0]
    table[name] = Weights(name, url, row['arch'], f'configs/{row["config"]}', resolution, classes, 'MIT', accuracy)


def of_file(filename: str | Path) -> Weights | None:
    """Return the published weights that have a file's name, or None."""
    return next((row for row in weights().values() if row.filename == Path(filename).name), None)
