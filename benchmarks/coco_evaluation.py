"""Measure what the evaluation of a data set of COCO's size costs with pycocotools and with faster-coco-eval.

It draws 5,000 images with 7 objects and 100 detections each, and prints seconds, medians of ``--repeat`` interleaved
runs, and by how much the figures differ. `python benchmarks/coco_evaluation.py` takes about eight minutes and 6 GB.
"""
import contextlib
import io
import time

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from convnext_mm.apis.arguments import Parser
from convnext_mm.evaluation.coco import evaluate_coco

CLASSES, OBJECTS, DETECTIONS, SIDE = 80, 7, 100, 160
BACKENDS = 'pycocotools', 'faster-coco-eval'


def draw_shapes(rng: np.random.Generator, count: int = 300) -> list[dict]:
    """Return boxes with masks."""
    shapes = []
    for _ in range(count):
        x, y, w, h = [*rng.integers(0, .6 * SIDE, 2).tolist(), *rng.integers(4, .4 * SIDE, 2).tolist()]
        mask = np.zeros((SIDE, SIDE), np.uint8, order='F')
        mask[y:y + h, x:x + w] = 1
        encoded = coco_mask.encode(mask)
        shapes.append(dict(bbox=[x, y, w, h], segmentation=dict(size=[SIDE, SIDE], counts=encoded['counts'].decode())))
    return shapes


def draw(images: int) -> tuple[COCO, list[dict]]:
    """Return the annotations, and detections of which half have the class of an object of the image."""
    rng = np.random.default_rng(0)
    shapes, truth, found = draw_shapes(rng), [], []
    for image in range(1, images + 1):
        own = rng.integers(1, CLASSES + 1, OBJECTS)
        of_found = np.where(rng.random(DETECTIONS) < .5, rng.choice(own, DETECTIONS),
                            rng.integers(1, CLASSES + 1, DETECTIONS))
        picked = rng.integers(0, len(shapes), OBJECTS + DETECTIONS)
        for label, shape in zip(own.tolist(), picked):
            _, _, w, h = shapes[shape]['bbox']
            truth.append(dict(shapes[shape], id=len(truth) + 1, image_id=image, category_id=label, area=w * h,
                              iscrowd=0))
        for label, shape, score in zip(of_found.tolist(), picked[OBJECTS:], rng.random(DETECTIONS).tolist()):
            found.append(dict(shapes[shape], image_id=image, category_id=label, score=score))
    coco = COCO()
    coco.dataset = dict(images=[dict(id=i + 1, width=SIDE, height=SIDE) for i in range(images)], annotations=truth,
                        categories=[dict(id=i + 1, name=str(i)) for i in range(CLASSES)])
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco, found


def main():
    parser = Parser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--repeat', type=int, default=3)
    args = parser.parse_args()
    truth, found = draw(args.images)
    for kind in ('bbox', 'segm'):
        seconds, figures = {backend: [] for backend in BACKENDS}, {}
        for _ in range(args.repeat):
            for backend in BACKENDS:
                start = time.perf_counter()
                figures[backend] = evaluate_coco(truth, found, kind, range(1, CLASSES + 1), backend)
                seconds[backend].append(time.perf_counter() - start)
        slow, fast = (np.median(seconds[backend]) for backend in BACKENDS)
        apart = max(np.abs(one - other).max() for one, other in zip(*figures.values()))
        print(f'{kind}: {BACKENDS[0]} {slow:.1f} s, {BACKENDS[1]} {fast:.1f} s, {slow / fast:.1f} times as fast; '
              f'figures differ by at most {apart:.1g}')


if __name__ == '__main__':
    main()
