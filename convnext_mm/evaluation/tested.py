"""Let metrics evaluate the images that are tested: all of them, each once, and no others of their annotation files.

mm's metrics of COCO files evaluate every image of the file. Where a data set leaves some out, by ``indices``, by
``filter_cfg`` or because its own file is a cleaned one, those would count as images in which nothing was found.
"""
import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from convnext_mm.utils.built_datasets import built_leaves
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import shorten

#: Where metrics keep the ground truth of their annotation file, and what makes its index.
_TRUTHS = {'_coco_api': 'createIndex', '_lvis_api': '_create_index'}


class Tested(NamedTuple):
    """How many images of an annotation file (or a folder of images) are tested; ``total`` is None if unknown."""

    images: int
    total: int | None
    file: str

    def __str__(self):
        return f'{self.images}{"" if self.total is None else f" of {self.total}"} images of {self.file}'


def restrict_metrics(metrics: Sequence, files: Sequence[str | None], dataset: Any, key: str,
                     by_part: bool = False) -> list[Tested]:
    """Restrict the ground truth of metrics to the images of a data set, and say how many those are.

    Their annotations are numbered from 1, and those that do not say so are no crowds: pycocotools takes a match with
    annotation 0 for none, keeps one of several annotations of the same id, and fails without ``iscrowd``. Files stay
    as they are.

    Args:
        metrics (Sequence[BaseMetric]): Of one evaluator, which has not processed anything.
        files (Sequence[str | None]): Their annotation files, None for a metric without one.
        dataset (BaseDataset): What is tested, built; also one of mm's wrappers.
        key (str): Its key in the config, for messages.
        by_part (bool): Whether each metric evaluates one part of a ``ConcatDataset``, as those of mmdet's
            ``MultiDatasetsEvaluator`` do. Defaults to False.

    Returns:
        list[Tested]: For each file.

    Raises:
        UserError: An image is tested twice, an annotation file does not have it, or the parts have other classes.
    """
    parts = list(getattr(dataset, 'datasets', (dataset,)))
    _check_classes(parts, key)
    if by_part:
        return _restrict_parts(metrics, files, parts, key)
    if not isinstance(getattr(dataset, 'metainfo', {}), Mapping):
        # mmdet's ConcatDataset has a list of them where they differ, and metrics take one.
        raise UserError(f'the parts of {key} have different metainfo (palette, for example): give them the same, or '
                        "each a metric of its own by mmdet's MultiDatasetsEvaluator")
    ids = _image_ids(dataset)
    of_files = [pair for pair in zip(metrics, files) if ids and _truth(pair[0])[1]]
    if of_files or any(hasattr(leaf, 'label_map') for leaf in built_leaves(dataset)):
        # In other data sets, an image may well come several times, as each time something else is asked about it.
        _check_once(ids, key, len(parts) > 1)
    restricted = list(dict.fromkeys(_restrict(*pair, ids, key) for pair in of_files))
    return restricted or list(map(_count, built_leaves(dataset)))


def _restrict_parts(metrics, files, parts, key):
    tested = []
    for number, (metric, file, part) in enumerate(zip(metrics, files, parts)):
        metric.dataset_meta = part.metainfo
        tested += restrict_metrics([metric], [file], part, f'{key}.datasets.{number}')
    return tested


def _check_classes(parts, key):
    classes = [list((getattr(part, 'metainfo', None) or {}).get('classes') or ()) for part in parts]
    other = next((i for i, names in enumerate(classes) if names != classes[0]), None)
    if other is not None:
        raise UserError(f'{key}.datasets.0 has the classes {shorten(classes[0])}, {key}.datasets.{other} has '
                        f'{shorten(classes[other])}: a model numbers its classes in one way: set the same '
                        'metainfo.classes for both')


def _image_ids(dataset):
    """Return what tells the images of a data set apart, in its order: the id in a COCO file, or else the path.

    Data sets that are not mmengine's do not say, and the list is empty.
    """
    while not hasattr(dataset, 'get_data_info') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    if not hasattr(dataset, 'get_data_info'):
        return []
    infos = enumerate(map(dataset.get_data_info, range(len(dataset))))
    return [info['img_id'] if 'img_id' in info else str(info.get('img_path', number)) for number, info in infos]


def _check_once(ids, key, concatenated):
    repeated = [i for i, count in Counter(ids).items() if count > 1]
    if repeated:
        mend = "give each part a metric of its own by mmdet's MultiDatasetsEvaluator, or each image an id of its own" \
            if concatenated else 'take out the wrapper (RepeatDataset and the like) or the double lines'
        raise UserError(f'{key} has {len(repeated)} of {len(set(ids))} images more than once, by their ids or paths '
                        f'({shorten(repeated)}), which would count several times or be mistaken for each other: {mend}')


def _truth(metric):
    """Return (method that makes the index, ground truth) of a metric; None twice where it has no annotation file."""
    return next(((index, getattr(metric, name)) for name, index in _TRUTHS.items() if getattr(metric, name, None)),
                (None, None))


def _restrict(metric, file, ids, key):
    index, truth = _truth(metric)
    unknown = [i for i in ids if i not in truth.imgs]
    if unknown:
        raise UserError(f'{file} has no image of {len(unknown)} of {len(ids)} ids of {key}: {shorten(unknown)}: set '
                        "the evaluator's ann_file to that of the data set")
    tested, wanted = Tested(len(ids), len(truth.imgs), file or 'the annotation file'), set(ids)
    annotations = [a for a in truth.dataset.get('annotations', ()) if a['image_id'] in wanted]
    truth.dataset = {**truth.dataset, 'images': [truth.imgs[i] for i in ids], 'annotations': annotations}
    for number, annotation in enumerate(annotations, 1):
        if 'segments_info' not in annotation:
            # The ids of panoptic segments are values of pixels.
            annotation['id'] = number
            annotation.setdefault('iscrowd', 0)
    with contextlib.redirect_stdout(io.StringIO()):
        getattr(truth, index)()
    if hasattr(truth, 'imgToAnns'):
        # mmdet's names for them.
        truth.img_ann_map, truth.cat_img_map = truth.imgToAnns, truth.catToImgs
    if hasattr(metric, 'img_ids'):
        metric.img_ids = ids
    return tested


def _count(leaf):
    """Return how many images of its file, or its folder, a data set has."""
    filtered = getattr(leaf, 'filter_cfg', None) and not getattr(leaf, 'test_mode', False)
    total: int | None = len(leaf)
    if filtered or getattr(leaf, '_indices', None) is not None:
        # Reading the file again tells what was there before: the data set keeps what is left.
        try:
            total = len(leaf.load_data_list())
        except Exception:
            # Some data sets, such as CrowdHuman's, can read their file only once.
            total = None
    prefix = getattr(leaf, 'data_prefix', None) or {}
    file = getattr(leaf, 'ann_file', '') or prefix.get('img_path') or prefix.get('img') or type(leaf).__name__
    return Tested(len(leaf), total, file)
