"""Predictions of a trained model beside the ground truth, the worst first."""
import sys
import time
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.utils import ProgressBar
from PIL import Image, ImageOps

from convnext_mm.checkpoint.mmengine_loader import load_checkpoint
from convnext_mm.datasets.preflight import check_data
from convnext_mm.drawing import pictures as drawing

#: Images that are looked at, as far as they can be predicted within ``SECONDS``, and how many of them are shown.
CHECKED, SECONDS, SHOWN = 40, 60, 6
MIN_SCORE = .5
#: Longer side of a picture on the page.
SIDE = 640


class Sample(NamedTuple):
    """An image with what a model made of it.

    Attributes:
        name (str): File name of the image.
        iou (float): From 0 to 1: :func:`instance_iou` or :func:`segmentation_iou`.
        detail (str): What is wrong, in words.
        panels (dict[str, ndarray]): Title -> picture, RGB, uint8, the longer side at most ``SIDE``.
        legend (list): Name and RGB colour of the classes; empty for instances, which carry their names.
    """

    name: str
    iou: float
    detail: str
    panels: dict
    legend: list


def predict_samples(cfg, checkpoint, accelerator=True):
    """The worst predictions of a model among random images of its test data.

    Args:
        cfg (mmengine.Config): A detector's or a segmentor's.
        checkpoint (str | Path): Of that model.
        accelerator (bool): Predict there if there is one; otherwise on the CPU. Defaults to True.

    Returns:
        tuple[list[Sample], int, int]: At most ``SHOWN``, the lowest IoU first; how many images were predicted; and
        how many the data set has.

    Raises:
        UserError: The data is not there, or the checkpoint does not fit.
    """
    check_data(cfg, ('test',))
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    model = MODELS.build(cfg.model)
    load_checkpoint(model, str(checkpoint))
    model.to(get_device() if accelerator else 'cpu').eval()
    worst, count, end = [], 0, time.monotonic() + SECONDS
    # The same images at every call, and spread evenly over the set however many there is time for.
    order = np.random.RandomState(0).permutation(len(dataset))[:CHECKED].tolist()
    progress = ProgressBar(len(order), bar_width=20, file=sys.stderr)
    for number in order:
        with torch.no_grad():
            result, = model.test_step(pseudo_collate([dataset[number]]))
        # The others' masks would fill the memory.
        worst = sorted([*worst, _judge(result.to('cpu'))], key=lambda judged: judged[0])[:SHOWN]
        count += 1
        progress.update()
        if time.monotonic() > end:
            break
    print(file=sys.stderr)
    return [_draw(*judged, dataset.metainfo) for judged in worst], count, len(dataset)


def overlaps(a, b):
    """IoU of every mask (or box x0, y0, x1, y1) of ``a`` with every one of ``b``.

    Args:
        a, b (ndarray): bool, (N, H, W) and (M, H, W); or numbers, (N, 4) and (M, 4).

    Returns:
        ndarray: (N, M).
    """
    if a.ndim == 3:
        a, b = (masks.reshape(len(masks), np.prod(masks.shape[1:])).astype(np.float32) for masks in (a, b))
        both, sizes = a @ b.T, (a.sum(1), b.sum(1))
    else:
        corners = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
        both = np.clip(corners[1] - corners[0], 0, None).prod(2)
        sizes = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1) for boxes in (a, b)]
    return both / np.maximum(sizes[0][:, None] + sizes[1][None] - both, 1e-9)


def instance_iou(true, true_labels, found, found_labels):
    """How well the instances found in an image match the true ones.

    Each true instance is matched with one found of its class, the pair of the highest IoU first; what is left over on
    either side counts 0.

    Args:
        true, found (ndarray): Masks or boxes as :func:`overlaps` takes them, N and M.
        true_labels, found_labels (ndarray): Their classes.

    Returns:
        tuple[float, int, int]: Mean IoU of the pairs and of what is left over (1 where there is nothing at all); the
        true instances that nothing was found for; and those found where nothing is.
    """
    ious = overlaps(true, found) * (np.asarray(true_labels)[:, None] == np.asarray(found_labels)[None])
    matched = []
    while ious.size and ious.max() > 0:
        i, j = np.unravel_index(ious.argmax(), ious.shape)
        matched.append(ious[i, j])
        ious[i], ious[:, j] = 0, 0
    missed, extra = len(true) - len(matched), len(found) - len(matched)
    count = len(matched) + missed + extra
    return float(sum(matched) / count) if count else 1., missed, extra


def segmentation_iou(true, found, classes, ignore_index=255):
    """Mean IoU of the classes that an image has or is said to have, and the worst of them.

    Args:
        true, found (ndarray): Indices, (H, W); where ``true`` is ``ignore_index``, nothing counts.
        classes (int): Their number.

    Returns:
        tuple[float, int]: 1 and class 0 where nothing is labelled.
    """
    known = true != ignore_index
    pairs = np.bincount(true[known].astype(int) * classes + found[known], minlength=classes**2).reshape(classes, -1)
    union = pairs.sum(0) + pairs.sum(1) - pairs.diagonal()
    present = np.flatnonzero(union)
    if not len(present):
        return 1., 0
    ious = pairs.diagonal()[present] / union[present]
    return float(ious.mean()), int(present[ious.argmin()])


def _instances(sample):
    """True and sure predicted instances of a detector's result: (boxes, labels, masks, scores) of each."""
    true, found = sample.gt_instances, sample.pred_instances
    found = found[found.scores >= MIN_SCORE]
    boxes = getattr(true.bboxes, 'tensor', true.bboxes).numpy()
    has_masks = 'masks' in true and 'masks' in found
    true_masks = true.masks.to_ndarray().astype(bool) if has_masks else None
    return ((boxes, true.labels.numpy(), true_masks, None),
            (found.bboxes.numpy(), found.labels.numpy(), found.masks.numpy() if has_masks else None,
             found.scores.numpy()))


def _judge(sample):
    """(IoU, detail, result) of a data sample that a model has filled in."""
    if 'pred_sem_seg' in sample:
        true, found = (data.data[0].numpy() for data in (sample.gt_sem_seg, sample.pred_sem_seg))
        iou, worst = segmentation_iou(true, found, max(int(found.max()), int(true[true != 255].max(initial=0))) + 1)
        return iou, worst, sample
    (boxes, labels, masks, _), (found_boxes, found_labels, found_masks, _) = _instances(sample)
    true, found = (boxes, found_boxes) if masks is None else (masks, found_masks)
    iou, missed, extra = instance_iou(true, labels, found, found_labels)
    return iou, (missed, extra), sample


def _draw(iou, detail, sample, metainfo):
    names = list(metainfo['classes'])
    colours = metainfo.get('palette')
    pixels = np.array(ImageOps.exif_transpose(Image.open(sample.img_path)).convert('RGB'))
    legend = []
    if 'pred_sem_seg' in sample:
        maps = [data.data[0].numpy() for data in (sample.gt_sem_seg, sample.pred_sem_seg)]
        legend = drawing.segmentation_legend(maps, names, colours)
        titled = {'image': np.full_like(maps[0], 255), 'ground truth': maps[0], 'prediction': maps[1]}
        panels = {title: drawing.draw_segmentation(pixels, index_map, names, colours)
                  for title, index_map in titled.items()}
        detail = f'worst class: {names[detail]}'
    else:
        panels = {title: drawing.draw_instances(pixels, boxes, labels, names, scores=scores, masks=masks,
                                                palette=colours)
                  for title, (boxes, labels, masks, scores) in zip(('ground truth', 'prediction'), _instances(sample))}
        missed, extra = detail
        detail = ', '.join(filter(None, [f'{missed} missed' if missed else '', f'{extra} where nothing is'
                                         if extra else ''])) or 'all found'
    return Sample(sample.img_path.replace('\\', '/').rsplit('/', 1)[-1], iou, detail,
                  {title: _fit(picture) for title, picture in panels.items()}, legend)


def _fit(picture):
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    return np.array(image)
