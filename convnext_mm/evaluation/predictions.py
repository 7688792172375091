"""Write and read predictions in formats that run no code.

A detector's predictions are one JSON file in COCO's format: ``images``, ``categories`` and ``annotations`` with a
``score`` each. Boxes are x, y, w, h in pixels of the original image, masks compressed run lengths. pycocotools
loads the list of annotations alone as results. Floats are written with all their digits, so that figures stay equal.

A segmentor's predictions are a folder of index PNGs, numbered as the data set's annotation files are (with
``reduce_zero_label`` the classes count from 1), and ``predictions.json`` with ``images`` and ``categories``, whose
``id`` is the value of a pixel.

Both have under ``info`` what was run.
"""
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convnext_mm.checkpoint.files import read_dump
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import replace_folder, whole_file
from convnext_mm.utils.installation import command

INDEX_FILE = 'predictions.json'
PICKLES = ('.pkl', '.pickle')


class Predictions(NamedTuple):
    """Predictions as read from disk.

    Attributes:
        info (dict): What was run; empty where the file does not say.
        images (list[dict] | None): As in the file; None for a list of results, which has none.
        categories (list[dict] | None): As in the file.
        annotations (list[dict] | None): COCO's results; None for segmentation.
        by_label (bool): Whether ``category_id`` is a label from 0, as mmdet's dump does not know the ids.
    """

    info: dict
    images: list | None
    categories: list | None
    annotations: list | None
    by_label: bool = False


def to_annotations(image_id: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray,
                   category_ids: Sequence[int], masks: Sequence | None = None,
                   mask_scores: np.ndarray | None = None) -> list[dict]:
    """Return COCO's results of one image.

    Args:
        image_id (int): The image's id.
        boxes (ndarray): x0, y0, x1, y1 in pixels, (N, 4).
        scores (ndarray): (N,).
        labels (ndarray): Indices into ``category_ids``, (N,).
        category_ids (Sequence[int]): Ids of the classes.
        masks (Sequence, optional): bool (H, W) or compressed run lengths, N of them. Defaults to none.
        mask_scores (ndarray, optional): Scores of the masks where they have some of their own, (N,); stored as
            ``mask_score``. Defaults to none.

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
    """Return a mask, or compressed run lengths, as compressed run lengths that JSON takes."""
    from pycocotools import mask as coco_mask
    if not isinstance(mask, dict):
        mask = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    counts = mask['counts']
    return dict(size=list(map(int, mask['size'])), counts=counts.decode() if isinstance(counts, bytes) else counts)


def write_detections(path: str | Path, info: dict, images: list[dict], categories: list[dict],
                     annotations: list[dict]) -> None:
    """Write predictions in COCO's format (see the module), and give the annotations ids from 1."""
    content = dict(info=info, images=images, categories=categories,
                   annotations=[dict(id=i + 1, **annotation) for i, annotation in enumerate(annotations)])
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content))


def write_index_map(path: str | Path, index_map: np.ndarray, reduce_zero_label: bool) -> None:
    """Write a segmentation as an index PNG, of 16 bits where the values need them.

    Args:
        path (Path): The file.
        index_map (ndarray): Class indices from 0, (H, W).
        reduce_zero_label (bool): Whether the data set's files number the classes from 1.
    """
    values = np.asarray(index_map, np.int64) + bool(reduce_zero_label)
    with whole_file(path) as temporary:
        Image.fromarray(values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)).save(temporary, 'PNG')


def read_index_map(path: str | Path, reduce_zero_label: bool) -> np.ndarray:
    """Return the class indices that :func:`write_index_map` wrote, (H, W); unlabelled pixels become 255."""
    try:
        values = np.asarray(Image.open(path)).astype(np.int64)
    except OSError as error:
        raise UserError(f'{path} cannot be read as an index PNG: {error}') from None
    if values.ndim != 2:
        raise UserError(f'{path} is no index PNG: its pixels have {values.shape[2]} values each')
    return np.where(values == 0, 255, values - 1) if reduce_zero_label else values


def index_categories(classes: Sequence[str], reduce_zero_label: bool) -> list[dict]:
    """Return ``id`` (the value of a pixel in an index PNG) and ``name`` of each class."""
    return [dict(id=i + bool(reduce_zero_label), name=name) for i, name in enumerate(classes)]


def partial_folder(folder: str | Path) -> Path:
    """Return where the index PNGs of a folder are gathered until all are there.

    Its name is fixed, as all processes of a distributed run write into it.
    """
    return Path(f'{os.path.normpath(folder)}.partial')


def finish_folder(folder: str | Path, info: dict, names: dict[str, str], categories: list[dict]) -> None:
    """Write the ``predictions.json`` of gathered index PNGs, and rename their folder to its final name.

    Args:
        folder (str | Path): The final name; an earlier folder of that name is replaced. The PNGs are in
            ``partial_folder(folder)``.
        info (dict): What was run.
        names (dict): ``{name of the PNG: name of the image}``; other PNGs are left from an interrupted run and go.
        categories (list[dict]): ``id`` (the pixel's value) and ``name``.
    """
    partial = partial_folder(folder)
    for stale in set(partial.rglob('*.png')) - {partial / name for name in names}:
        stale.unlink()
    images = [dict(id=i + 1, file_name=names[name], map=name) for i, name in enumerate(sorted(names))]
    (partial / INDEX_FILE).write_text(json.dumps(dict(info=info, images=images, categories=categories)))
    replace_folder(partial, folder)


def read_predictions(path: str | Path) -> Predictions:
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
            raise UserError(f'{path / INDEX_FILE} is not what {command("test")} --out writes: expected a JSON object')
        return _take(path, content, None)
    if not path.exists():
        raise UserError(f'predictions {str(path)!r} do not exist; expected what {command("test")} --out stored')
    if path.suffix in PICKLES:
        return _read_dump(path)
    content = _read_json(path)
    if isinstance(content, list):
        content = dict(annotations=content)
    annotations = content.get('annotations') if isinstance(content, dict) else None
    wrong = next((entry for entry in annotations if not _is_result(entry)), None) if isinstance(
        annotations, list) else 'none'
    if wrong is not None:
        raise UserError(f"predictions {str(path)!r} are not COCO's: expected annotations with image_id, category_id, "
                        f'bbox (4 numbers) and score, and masks as run lengths, got {str(wrong)[:200]}')
    return _take(path, content, annotations)


def _is_result(entry):
    """Return whether an entry of a JSON file is one of COCO's results."""
    if not isinstance(entry, dict) or not isinstance(entry.get('bbox'), list) or len(entry['bbox']) != 4:
        return False
    score, mask = entry.get('score'), entry.get('segmentation')
    return (isinstance(entry.get('image_id'), (int, float, str)) and score == score
            and all(isinstance(number, (int, float)) for number in (*entry['bbox'], score, entry.get('category_id')))
            and (not mask or isinstance(mask, dict) and {'size', 'counts'} <= mask.keys()))


def _take(path, content, annotations):
    """Return the content of a JSON file as ``Predictions``, after a check of what is not yet checked."""
    for name, keys in (('images', {'id'}), ('categories', {'id', 'name'})):
        entries = content.get(name)
        if entries is not None and not (isinstance(entries, list) and all(
                isinstance(entry, dict) and keys <= entry.keys() for entry in entries)):
            raise UserError(f'predictions {str(path)!r} are not what {command("test")} --out writes: expected {name} '
                            f'as a list of objects with {" and ".join(sorted(keys))}')
    info = content.get('info')
    return Predictions(info if isinstance(info, dict) else {}, content.get('images'), content.get('categories'),
                       annotations)


def _read_dump(path):
    """Read what mmdet's ``DumpDetResults`` wrote, without running what a pickle may ask for."""
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
