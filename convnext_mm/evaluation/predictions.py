"""Predictions on disk, in formats that are read without running code.

Detection: one JSON file in COCO's format, ``images``, ``categories`` and ``annotations`` with a ``score`` each (boxes
x, y, w, h in pixels of the original image, masks as compressed run lengths); the list of annotations alone is what
``pycocotools`` loads as results. Floats are written with all their digits, so that figures stay equal.
Segmentation: a folder of index PNGs in the numbering of the data set's annotation files (with ``reduce_zero_label``
the classes count from 1), and ``predictions.json`` with ``images`` and ``categories``; ``id`` is the pixel's value.
Both hold under ``info`` what was run.
"""
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convnext_mm.checkpoint.files import read_dump
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place, whole_file

INDEX_FILE = 'predictions.json'
PICKLES = ('.pkl', '.pickle')


class Predictions(NamedTuple):
    """What was read.

    Attributes:
        info (dict): What was run; empty where the file does not tell.
        images (list[dict] | None): As in the file; None in a list of results, which does not tell.
        categories (list[dict] | None): As in the file.
        annotations (list[dict] | None): COCO's results; None for segmentation.
        by_label (bool): Whether ``category_id`` is a label from 0, as mmdet's dump does not know the ids.
    """

    info: dict
    images: list | None
    categories: list | None
    annotations: list | None
    by_label: bool = False


def to_annotations(image_id, boxes, scores, labels, category_ids, masks=None, mask_scores=None):
    """COCO's results of one image.

    Args:
        image_id (int): Of the image.
        boxes (ndarray): x0, y0, x1, y1 in pixels, (N, 4).
        scores (ndarray): (N,).
        labels (ndarray): Indices into ``category_ids``, (N,).
        category_ids (Sequence[int]): Of the classes.
        masks (Sequence, optional): bool (H, W) or compressed run lengths, N of them.
        mask_scores (ndarray, optional): Where masks have scores of their own; stored as ``mask_score``.

    Returns:
        list[dict]: ``image_id``, ``category_id``, ``bbox`` (x, y, w, h), ``score`` and ``segmentation``.
    """
    annotations = []
    for i, (box, score, label) in enumerate(zip(boxes.tolist(), scores.tolist(), labels.tolist())):
        x0, y0, x1, y1 = box
        annotation = dict(image_id=image_id, category_id=category_ids[label], bbox=[x0, y0, x1 - x0, y1 - y0],
                          score=score)
        if masks is not None:
            annotation['segmentation'] = _run_lengths(masks[i])
        if mask_scores is not None:
            annotation['mask_score'] = mask_scores[i].item()
        annotations.append(annotation)
    return annotations


def _run_lengths(mask):
    from pycocotools import mask as coco_mask
    if not isinstance(mask, dict):
        mask = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    counts = mask['counts']
    return dict(size=list(map(int, mask['size'])), counts=counts.decode() if isinstance(counts, bytes) else counts)


def write_detections(path, info, images, categories, annotations):
    """Write COCO's format (see the module); annotations get their ids here."""
    content = dict(info=info, images=images, categories=categories,
                   annotations=[dict(id=i + 1, **annotation) for i, annotation in enumerate(annotations)])
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content))


def write_index_map(path, index_map, reduce_zero_label):
    """Write a segmentation as an index PNG, of 16 bits where the values need them.

    Args:
        path (Path): The file.
        index_map (ndarray): Class indices from 0, (H, W).
        reduce_zero_label (bool): Whether the data set's files number the classes from 1.
    """
    values = np.asarray(index_map, np.int64) + bool(reduce_zero_label)
    with whole_file(path) as temporary:
        Image.fromarray(values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)).save(temporary, 'PNG')


def read_index_map(path, reduce_zero_label):
    """Class indices of an index PNG; what it leaves unlabelled gets 255. Inverse of :func:`write_index_map`."""
    try:
        values = np.asarray(Image.open(path)).astype(np.int64)
    except OSError as error:
        raise UserError(f'{path} cannot be read as an index PNG: {error}') from None
    if values.ndim != 2:
        raise UserError(f'{path} is no index PNG: its pixels have {values.shape[2]} values each')
    return np.where(values == 0, 255, values - 1) if reduce_zero_label else values


def index_categories(classes, reduce_zero_label):
    """``id`` (the value of a pixel in an index PNG) and ``name`` of each class."""
    return [dict(id=i + bool(reduce_zero_label), name=name) for i, name in enumerate(classes)]


def partial_folder(folder):
    """Where the index PNGs of a folder are gathered until all are there."""
    return Path(f'{os.path.normpath(folder)}.partial')


def finish_folder(folder, info, names, categories):
    """Give a folder of index PNGs its ``predictions.json`` and its name, in place of an earlier one.

    Args:
        folder (str | Path): Its PNGs are in ``partial_folder(folder)``.
        info (dict): What was run.
        names (dict): ``{name of the PNG: name of the image}``; other PNGs are an interrupted run's.
        categories (list[dict]): ``id`` (the pixel's value) and ``name``.
    """
    folder, partial = Path(folder), partial_folder(folder)
    for stale in set(partial.rglob('*.png')) - {partial / name for name in names}:
        stale.unlink()
    images = [dict(id=i + 1, file_name=names[name], map=name) for i, name in enumerate(sorted(names))]
    (partial / INDEX_FILE).write_text(json.dumps(dict(info=info, images=images, categories=categories)))
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def check_folder(argument, folder):
    """Make sure that predictions can be written as a folder: it is new, empty, or holds earlier predictions.

    Raises:
        UserError: It holds something else, or cannot be written.
    """
    path = Path(folder)
    if path.is_file() or path.suffix in ('.json', *PICKLES):
        raise UserError(f'{argument} {str(folder)!r}: the predictions of a segmentor go into a folder, as index PNGs')
    if path.is_dir() and any(path.iterdir()) and not (path / INDEX_FILE).is_file():
        raise UserError(f'{argument} {str(folder)!r} holds something other than predictions (it has no {INDEX_FILE}) '
                        'and is left as it is: give another folder')
    check_place(argument, path)


def check_file(argument, file):
    """Make sure that a detector's predictions can be written as a file.

    Raises:
        UserError: Another ending than ``.json``, ``.pkl`` or ``.pickle``, or it cannot be written.
    """
    if Path(file).suffix not in ('.json', *PICKLES) or os.path.isdir(file):
        raise UserError(f"{argument} {str(file)!r}: the predictions of a detector go into a .json file (COCO's format, "
                        'for tools/evaluate.py), or a .pkl file as mmdet writes it')
    check_place(argument, file)


def read_predictions(path):
    """Read what ``--out`` stored, a JSON list of COCO's results, mmdet's dump or a folder of mmseg's index PNGs.

    Raises:
        UserError: It is none of these.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / INDEX_FILE).is_file():
            return Predictions({}, None, None, None)
        content = _read_json(path / INDEX_FILE)
        if not isinstance(content, dict):
            raise UserError(f'{path / INDEX_FILE} is not what tools/test.py --out writes: expected a JSON object')
        return Predictions(content.get('info', {}), content.get('images'), content.get('categories'), None)
    if not path.exists():
        raise UserError(f'predictions {str(path)!r} do not exist; expected what tools/test.py --out stored')
    if path.suffix in PICKLES:
        return _read_dump(path)
    content = _read_json(path)
    if isinstance(content, list):
        content = dict(annotations=content)
    annotations = content.get('annotations') if isinstance(content, dict) else None
    if not isinstance(annotations, list) or not all(
            isinstance(a, dict) and {'image_id', 'category_id', 'bbox', 'score'} <= a.keys() for a in annotations):
        raise UserError(f"predictions {str(path)!r} are not COCO's: expected annotations with image_id, category_id, "
                        'bbox and score')
    return Predictions(content.get('info', {}), content.get('images'), content.get('categories'), annotations)


def _read_dump(path):
    """mmdet's ``DumpDetResults``, without running what a pickle may ask for."""
    images, annotations = [], []
    try:
        for sample in read_dump(path):
            found, image_id = sample['pred_instances'], sample['img_id']
            images.append(dict(id=image_id))
            annotations += to_annotations(
                image_id, *(found[key].numpy() for key in ('bboxes', 'scores')), found['labels'].numpy(),
                range(int(found['labels'].max()) + 1) if len(found['labels']) else (), found.get('masks'),
                found['mask_scores'].numpy() if 'mask_scores' in found else None)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"predictions {str(path)!r} are not mmdet's dump of results: {type(error).__name__}: "
                        f'{error}') from None
    return Predictions({}, images, None, annotations, by_label=True)


def _read_json(path):
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f'predictions {str(path)!r} cannot be read as JSON: {error}') from None


def compare_images(path, expected, found):
    """Make sure that the images of predictions are those of a data set.

    Args:
        path (str | Path): Of the predictions, for the message.
        expected (Iterable[str]): Names in the data set.
        found (Iterable[str]): Names in the predictions.

    Raises:
        UserError: Naming what is missing and what is too much.
    """
    expected, found = set(expected), set(found)
    problems = [f'{len(names)} {what} ({", ".join(sorted(names)[:5])}{", ..." if len(names) > 5 else ""})'
                for names, what in ((expected - found, 'images of the data set are missing'),
                                    (found - expected, 'images are not in the data set')) if names]
    if problems:
        raise UserError(f"predictions {str(path)!r} are not those of the config's test_dataloader.dataset, which has "
                        f'{len(expected)} images: {" and ".join(problems)}')


def compare_categories(path, expected, found):
    """Make sure that ``{id: name}`` of the predictions' classes are the data set's.

    Raises:
        UserError: Naming the first that differ.
    """
    wrong = [f'{i} is {found.get(i, "missing")}, in the data set {expected.get(i, "missing")}'
             for i in sorted({*expected, *found}) if expected.get(i) != found.get(i)]
    if wrong:
        raise UserError(f"predictions {str(path)!r} are of other classes than the config's test_dataloader.dataset: "
                        f'category {"; ".join(wrong[:3])}{"; ..." if len(wrong) > 3 else ""}')
