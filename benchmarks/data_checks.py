"""Measure what the checks of an annotation file of COCO's size cost before training, with and without the census.

Without it, the file is parsed a second time for what is compared with other files. It draws a file of 118,000 images
and 860,000 instances with polygons, and prints processor seconds, the best of ``--repeat``.
`python benchmarks/data_checks.py` takes about three minutes and 4 GB.
"""
import argparse
import gc
import json
import random
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from convnext_mm.apis.arguments import Parser
from convnext_mm.datasets.annotations import check_reach
from convnext_mm.datasets.census_coco import count_coco
from convnext_mm.datasets.columns import read_columns
from convnext_mm.datasets.images import Loader
from convnext_mm.datasets.outlines import forget_outlines, keep_outline, read_outline
from convnext_mm.datasets.reading import parse_json


def draw(images: int, instances: int) -> dict:
    """Return the content of a COCO file with random boxes and polygons of 10 to 40 points."""
    rng = random.Random(0)
    content = dict(
        images=[dict(id=i + 1, file_name=f'{i:012d}.jpg', width=640, height=480) for i in range(images)],
        annotations=[], categories=[dict(id=i + 1, name=f'class {i}') for i in range(80)])
    for i in range(instances):
        x, y, w, h = (round(value, 2) for value in (rng.random() * 500, rng.random() * 400, 10 + rng.random() * 130,
                                                    10 + rng.random() * 70))
        polygon = [round(low + rng.random() * side, 2)
                   for _ in range(rng.randint(10, 40)) for low, side in ((x, w), (y, h))]
        content['annotations'].append(dict(
            id=i + 1, image_id=rng.randint(1, images), category_id=rng.randint(1, 80), bbox=[x, y, w, h],
            area=w * h / 2, iscrowd=int(rng.random() < .01), segmentation=[polygon]))
    return content


def check(path: Path, census: bool) -> dict:
    """Return the seconds of each step of the checks."""
    seconds, start = {}, time.process_time()

    def done(step):
        nonlocal start
        seconds[step], start = time.process_time() - start, time.process_time()

    if census:
        content, _ = parse_json(path.read_bytes())
    else:
        content = json.loads(path.read_bytes())
    done('parse')
    check_reach(content)
    done('coordinates')
    if census:
        keep_outline(str(path), content)
    else:
        read_outline(str(path))
    done('categories and names of images')
    forget_outlines()
    if census:
        columns, flaw = read_columns(content)
        assert flaw is None
        done('numbers and ids')
        dataset = SimpleNamespace(metainfo=dict(classes=tuple(f'class {i}' for i in range(80))), test_mode=False,
                                  filter_cfg=dict(filter_empty_gt=True, min_size=32), _indices=None)
        count_coco(dataset, content, columns, Loader(with_mask=True))
        done('count')
    return seconds


def main() -> None:
    """Print the seconds of each step, and of all."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=118_000)
    parser.add_argument('--instances', type=int, default=860_000)
    parser.add_argument('--repeat', type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'instances.json')
        path.write_text(json.dumps(draw(args.images, args.instances)))
        gc.collect()
        print(f'{args.images} images, {args.instances} instances, {path.stat().st_size / 1e6:.0f} MB')
        for census, name in ((False, 'without the census'), (True, 'with the census')):
            best = min((check(path, census) for _ in range(args.repeat)), key=lambda seconds: sum(seconds.values()))
            print(f'{name}: {sum(best.values()):.1f} s ('
                  + ', '.join(f'{step} {value:.1f}' for step, value in best.items()) + ')')


if __name__ == '__main__':
    main()
