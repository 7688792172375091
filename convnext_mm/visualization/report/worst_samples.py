"""Predictions of a trained model beside the ground truth, the worst first."""
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS
from PIL import Image

from convnext_mm.datasets.preflight import check_data, warn
from convnext_mm.drawing import UNLABELLED, Classes, Instances, choose_palette, draw_panels, load_image, read_sample
from convnext_mm.models.build import load_model
from convnext_mm.utils.configs import is_classifier
from convnext_mm.utils.progress import Bar
from convnext_mm.utils.scopes import set_default_scope

#: Images that are looked at, as far as they can be predicted within ``SECONDS``, and how many of them are shown.
CHECKED, SECONDS, SHOWN = 40, 60, 6
#: Images that a classifier is shown: it needs little time for each.
CLASSIFIED = 1000
MIN_SCORE = .5
#: Longer side of a picture on the page.
SIDE = 640


class Sample(NamedTuple):
    """An image with what a model made of it.

    Attributes:
        name (str): File name of the image.
        measure (str): How good it is, in words.
        detail (str): What is wrong, in words.
        panels (dict[str, ndarray]): Title -> picture, RGB, uint8, the longer side at most ``SIDE``.
        legend (list): Name and RGB colour of the classes; empty for instances, which carry their names.
    """

    name: str
    measure: str
    detail: str
    panels: dict
    legend: list


class Judged(NamedTuple):
    """A prediction with its rank, the words for it, and what is needed to draw it.

    The lowest rank is the worst: an IoU, :func:`instance_iou` or :func:`segmentation_iou`, or of a classified image the
    confidence, below 0 where the class is wrong.
    """

    rank: float
    measure: str
    detail: str
    path: str
    truth: Classes | Instances | np.ndarray
    found: Classes | Instances | np.ndarray


def predict_samples(cfg: Config, checkpoint: str | Path, accelerator: bool = True) -> tuple[list[Sample], int, int]:
    """Return the worst predictions of a model among random images of its test data.

    Args:
        cfg (mmengine.Config): A detector's, a segmentor's or a classifier's.
        checkpoint (str | Path): Of that model.
        accelerator (bool): Predict there if there is one; otherwise on the CPU. Defaults to True.

    Returns:
        tuple[list[Sample], int, int]: At most ``SHOWN``, the worst first (see :class:`Judged`); how many images were
        predicted; and how many the data set has.

    Raises:
        UserError: The data is not there, or the checkpoint does not fit.
    """
    warn(check_data(cfg, ('test',)))
    set_default_scope(cfg)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    model = load_model(cfg.model, checkpoint)[0].to(get_device() if accelerator else 'cpu')
    names = list(dataset.metainfo['classes'])
    palette = choose_palette(dataset.metainfo.get('palette'), len(names))
    worst, count = find_worst(model, dataset, names, CLASSIFIED if is_classifier(model) else CHECKED)
    return [draw_sample(judged, dataset, names, palette) for judged in worst], count, len(dataset)


def find_worst(model, dataset, names, most=CHECKED):
    """Predict random images of a data set, as many of ``most`` as there is time for.

    Returns:
        tuple[list[Judged], int]: At most ``SHOWN``, the worst first, and how many images were predicted.
    """
    # The same images at every call, and spread evenly over the set however many there is time for.
    order = np.random.RandomState(0).permutation(len(dataset))[:most].tolist()
    worst, bar, end = [], Bar(len(order), 'images predicted'), time.monotonic() + SECONDS
    for number in order:
        with torch.no_grad():
            sample, = model.test_step(pseudo_collate([dataset[number]]))
        # Keep the worst alone: the masks of all would fill the memory.
        worst = sorted([*worst, judge(sample, names)], key=lambda judged: judged.rank)[:SHOWN]
        bar.add()
        if time.monotonic() > end and bar.done < bar.total:
            bar.end(f'{bar.done} of {bar.total} images predicted: the time is up')
            break
    return worst, bar.done


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of every mask (or box x0, y0, x1, y1) of ``a`` with every one of ``b``, by pycocotools.

    Args:
        a, b (ndarray): bool, (N, H, W) and (M, H, W); or numbers, (N, 4) and (M, 4).

    Returns:
        ndarray: (N, M).
    """
    from pycocotools import mask as coco_mask
    found, true = ([coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in shapes] if a.ndim == 3 else
                   np.hstack([shapes[:, :2], shapes[:, 2:] - shapes[:, :2]]).astype(float) for shapes in (a, b))
    # Of nothing, pycocotools returns an empty list.
    return np.reshape(coco_mask.iou(found, true, [False] * len(b)), (len(a), len(b)))


def instance_iou(true: np.ndarray, true_labels: np.ndarray, found: np.ndarray,
                 found_labels: np.ndarray) -> tuple[float, int, int]:
    """Return how well the instances found in an image match the true ones.

    Each true instance is matched with one found of its class, the pair of the highest IoU first; what is left over on
    either side counts 0.

    Args:
        true, found (ndarray): Masks or boxes as :func:`pairwise_iou` takes them, N and M.
        true_labels, found_labels (ndarray): Their classes.

    Returns:
        tuple[float, int, int]: Mean IoU of the pairs and of what is left over (1 where there is nothing at all); the
        true instances that nothing was found for; and those found where nothing is.
    """
    ious = pairwise_iou(true, found) * (np.asarray(true_labels)[:, None] == np.asarray(found_labels)[None])
    matched = []
    while ious.size and ious.max() > 0:
        i, j = np.unravel_index(ious.argmax(), ious.shape)
        matched.append(ious[i, j])
        ious[i], ious[:, j] = 0, 0
    missed, extra = len(true) - len(matched), len(found) - len(matched)
    count = len(matched) + missed + extra
    return float(sum(matched) / count) if count else 1., missed, extra


def segmentation_iou(true: np.ndarray, found: np.ndarray, classes: int, ignore_index: int = UNLABELLED
                     ) -> tuple[float, int]:
    """Return the mean IoU of the classes that an image has or is said to have, and the worst of them.

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


def judge(sample, names):
    """Return a data sample that a model has filled in as ``Judged``."""
    truth, found = read_sample(sample, MIN_SCORE)
    if isinstance(found, Classes):
        return judge_classes(truth, found, sample.img_path, names)
    if not isinstance(found, Instances):
        most = max(int(found.max()), int(truth[truth != UNLABELLED].max(initial=0)))
        iou, worst = segmentation_iou(truth, found, most + 1)
        return Judged(iou, f'IoU {iou:.2f}', f'worst class: {names[worst]}', sample.img_path, truth, found)
    kind = 'boxes' if truth.masks is None or found.masks is None else 'masks'
    iou, missed, extra = instance_iou(getattr(truth, kind), truth.labels, getattr(found, kind), found.labels)
    wrong = [f'{missed} missed' if missed else '', f'{extra} where nothing is' if extra else '']
    return Judged(iou, f'IoU {iou:.2f}', ', '.join(filter(None, wrong)) or 'all found', sample.img_path, truth, found)


def judge_classes(truth, found, path, names):
    """Return a classified image as ``Judged``: the most confident mistakes are the worst."""
    label, score, true = int(found.labels[0]), float(found.scores[0]), int(truth.labels[0])
    right = label == true
    return Judged(score if right else -score, f'{names[label]} {score:.2f}',
                  'right' if right else f'wrong: it is {names[true]}', path, truth, found)


def draw_sample(judged, dataset, names, palette):
    """Return a judged prediction as a ``Sample``, with pictures that fit the page."""
    panels = draw_panels(load_image(dataset, judged.path), judged.found, judged.truth, names, palette)
    return Sample(judged.path.replace('\\', '/').rsplit('/', 1)[-1], judged.measure, judged.detail,
                  {title: fit_page(picture) for title, picture in panels.pictures.items()}, panels.legend)


def fit_page(picture):
    """Return a picture with its longer side at most ``SIDE``."""
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    return np.array(image)
