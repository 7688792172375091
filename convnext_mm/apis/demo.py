"""The main job on drawn shapes: make the data, train and test a detector and a segmentor, show what they predict."""
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convnext_mm.datasets import shapes
from convnext_mm.drawing import pictures as drawing
from convnext_mm.utils.progress import Line, clock
from convnext_mm.utils.text import format_table

#: Of a run on two cores of a machine that does nothing else, without a GPU.
MINUTES = 10
PICTURES = 12
#: Page about both trainings, below the folder of the demo.
REPORT = 'report.html'
MIN_SCORE = .5
#: Lines of a failed step's log that are shown.
TAIL = 25
#: mmengine's lines: `Epoch(train)  [2][10/40]  ...  eta: 0:05:47  ...  loss: 1.2345`, `Iter(test) [10/40]  eta: ...`.
LOG_LINE = re.compile(r'(?:Epoch|Iter)\((?P<mode>\w+)\)\s*(?:\[(?P<epoch>\d+)\])?\[\s*(?P<step>\d+)/(?P<steps>\d+)\]'
                      r'.*?\beta: (?P<eta>\S+(?: days?, \S+)?)(?:.*?\bloss: (?P<loss>\S+))?')


class Metric(NamedTuple):
    """A figure of the test: its key in ``evaluation.json``, and the least fraction that is right."""

    key: str
    bar: float


class Model(NamedTuple):
    """What is trained: config below the repository's root, where predictions go, options of a quick run, figures."""

    title: str
    config: str
    predictions: str
    quick: tuple
    metrics: dict


MODELS = (
    Model('Cascade Mask R-CNN', 'configs/demo/cascade.py', 'predictions.pkl',
          ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1'),
          {'box AP': Metric('coco/bbox_mAP', .80), 'mask AP': Metric('coco/segm_mAP', .80)}),
    Model('UPerNet', 'configs/demo/upernet.py', 'predictions',
          ('train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2'),
          {'mIoU': Metric('mIoU', .85)}))


class StepFailed(Exception):
    """A command of the demo ended with an exit code other than 0."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def read_progress(line):
    """A line of mmengine's log in short, or None where it tells no progress.

    >>> read_progress('... Epoch(train)  [2][10/40]  lr: 1e-04  eta: 0:05:47  time: 0.8  loss: 1.2345  s0.acc: 90')
    'epoch 2, 10/40, loss 1.2345, 5:47 left'
    """
    match = LOG_LINE.search(line)
    if match is None:
        return None
    parts = [f'{match["step"]}/{match["steps"]}']
    if match['mode'] == 'val':
        parts[0] = f'validation {parts[0]}'
    elif match['epoch']:
        parts.insert(0, f'epoch {match["epoch"]}')
    if match['loss']:
        parts.append(f'loss {match["loss"]}')
    return ', '.join([*parts, f'{re.sub("^0:0?", "", match["eta"])} left'])


def run_step(command, folder, log):
    """Run a command in ``folder`` with its output in the file ``log``, showing its progress; return the seconds taken.

    Raises:
        StepFailed: After showing the end of the log.
    """
    start, progress, rest = time.monotonic(), Line(indent='    '), ''
    print(f'    $ {shlex.join(command)}\n    log: {os.path.relpath(log)}', flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w') as output, open(log, errors='replace') as written:
        process = subprocess.Popen([sys.executable, *command[1:]], cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        try:
            running = True
            while running:
                # Asked before reading, so that what a process wrote before its end is read.
                running = process.poll() is None
                *lines, rest = (rest + written.read()).split('\n')
                for text in filter(None, map(read_progress, lines)):
                    progress.show(text)
                if running:
                    time.sleep(.3)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    seconds = time.monotonic() - start
    if process.returncode:
        progress.end(f'failed with exit code {process.returncode} after {clock(seconds)}; the end of its log:')
        with open(log, errors='replace') as written:
            print(''.join(deque(written, TAIL)).rstrip(), flush=True)
        raise StepFailed(process.returncode)
    progress.end(f'done in {clock(seconds)}')
    return seconds


def read_metrics(test_dir):
    """Figures that the test wrote into its work dir, as fractions by their keys; those that have none are left out."""
    figures = json.loads((test_dir / 'evaluation.json').read_text())['figures']
    return {figure['key']: figure['measured'] / 100 for figure in figures if figure['measured'] is not None}


def train_and_test(model, root, folder, out, quick):
    """Train and test a model by the tools; return its figures (label -> fraction) and the seconds of both."""
    config = os.path.relpath(root / model.config, folder)
    train_dir = out / Path(model.config).stem
    test_dir = train_dir / 'test'
    relative = {path: os.path.relpath(path, folder) for path in (train_dir, test_dir)}
    tools = {name: os.path.relpath(root / 'tools' / f'{name}.py', folder) for name in ('train', 'test')}
    options = ['--cfg-options', 'default_hooks.logger.interval=1', *model.quick] if quick else []
    print(f'\ntrain {model.title}', flush=True)
    train_time = run_step(['python', tools['train'], config, '--work-dir', relative[train_dir], '--deterministic',
                           *options], folder, train_dir / 'train.log')
    checkpoint = os.path.relpath((train_dir / 'last_checkpoint').read_text().strip(), folder)
    print(f'\ntest {model.title}', flush=True)
    test_time = run_step(['python', tools['test'], config, checkpoint, '--work-dir', relative[test_dir], '--out',
                          os.path.join(relative[test_dir], model.predictions)], folder, test_dir / 'test.log')
    figures = read_metrics(test_dir)
    return {label: figures[metric.key] for label, metric in model.metrics.items()}, train_time, test_time


def _pixels(path):
    return np.array(Image.open(path))


def instance_pictures(dataset, predictions, folder):
    """Pictures of a detector's first predictions beside the ground truth.

    Args:
        dataset (dict): The config's, in COCO's format.
        predictions (Path): File of mmdet's ``DumpDetResults``.
        folder (Path): Against which the data set's paths count.

    Yields:
        tuple[str, ndarray]: Name of the image and picture.
    """
    from pycocotools import mask as coco_mask
    root, names, colours = folder / dataset.data_root, dataset.metainfo.classes, dataset.metainfo.palette
    truth = json.loads((root / dataset.ann_file).read_text())
    category_index = {c['id']: names.index(c['name']) for c in truth['categories']}
    images = {image['id']: image for image in truth['images']}
    # Our own file of a moment ago, so unpickling it is safe.
    for prediction in pickle.loads(predictions.read_bytes())[:PICTURES]:
        image = images[prediction['img_id']]
        pixels = _pixels(root / dataset.data_prefix.img / image['file_name'])
        true = [a for a in truth['annotations'] if a['image_id'] == image['id']]
        boxes = np.array([a['bbox'] for a in true], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [coco_mask.decode(coco_mask.frPyObjects(a['segmentation'], image['height'], image['width']))
                 for a in true]
        left = drawing.draw_instances(pixels, boxes, [category_index[a['category_id']] for a in true], names,
                                      masks=masks, palette=colours)
        found = prediction['pred_instances']
        sure = np.flatnonzero(found['scores'].numpy() >= MIN_SCORE)
        right = drawing.draw_instances(
            pixels, found['bboxes'].numpy()[sure], found['labels'].numpy()[sure], names,
            scores=found['scores'].numpy()[sure], masks=[coco_mask.decode(found['masks'][i]) for i in sure],
            palette=colours)
        yield Path(image['file_name']).stem, drawing.side_by_side([left, right], ['ground truth', 'prediction'])


def segmentation_pictures(dataset, predictions, folder):
    """Pictures of a segmentor's first predictions (a folder of index PNGs, 0 unlabelled) beside the ground truth.

    Arguments and yields as in ``instance_pictures``.
    """
    root, names, colours = folder / dataset.data_root, dataset.metainfo.classes, dataset.metainfo.palette
    for file in sorted(predictions.glob('*.png'))[:PICTURES]:
        pixels = _pixels(root / dataset.data_prefix.img_path / file.name)
        # 0, the unlabelled, wraps to 255, which is drawn as such.
        maps = [_pixels(path) - np.uint8(1) for path in (root / dataset.data_prefix.seg_map_path / file.name, file)]
        panels = [drawing.draw_segmentation(pixels, index_map, names, colours)
                  for index_map in (np.full_like(maps[0], 255), *maps)]
        yield file.stem, drawing.side_by_side(panels, ['image', 'ground truth', 'prediction'],
                                              drawing.segmentation_legend(maps, names, colours))


def draw_pictures(pictures, folder, columns):
    """Write each picture into ``folder``, and the first of them together into a PNG of the folder's name."""
    folder.mkdir(parents=True, exist_ok=True)
    first = []
    for name, picture in pictures:
        Image.fromarray(picture).save(folder / f'{name}.png')
        first.append(picture)
    Image.fromarray(drawing.contact_sheet(first[:3 * columns], columns)).save(folder.with_suffix('.png'))


def format_results(results, with_bars):
    """The figures of all models with the times each took, as lines of text.

    Args:
        results (list): (Model, figures, train seconds, test seconds).
        with_bars (bool): Add the column of the bars.
    """
    header = ('model', 'metric', 'value', *(['bar'] if with_bars else []), 'training', 'test')
    rows = []
    for model, figures, train_time, test_time in results:
        title, times = model.title, (clock(train_time), clock(test_time))
        for label, value in figures.items():
            bar = [f'{model.metrics[label].bar:.2f}'] if with_bars else []
            rows.append((title, label, f'{value:.3f}', *bar, *times))
            title, times = '', ('', '')
    return format_table(header, rows, left=2)


def run(root, folder, quick=False):
    """Do the whole job and say what happens; see `tools/demo.py`.

    Args:
        root (Path): The repository, where ``tools/`` and ``configs/`` are.
        folder (Path): Where ``data/shapes`` and ``work_dirs/demo`` are made.
        quick (bool): Two iterations on a handful of images, without bars: whether everything works, not how well.

    Returns:
        int: 0; 1 where a figure is below its bar; a failed step's exit code; 130 when interrupted.
    """
    start = time.monotonic()
    root, folder = Path(root).resolve(), Path(folder).resolve()
    out = folder / 'work_dirs' / 'demo'
    try:
        results = _run(root, folder, out, quick)
    except StepFailed as failure:
        # A process that a signal ended has a negative code; shells show 128 more than the signal.
        return failure.code if failure.code > 0 else 128 - failure.code
    except KeyboardInterrupt:
        print('\ninterrupted', flush=True)
        return 130
    print(f'\n{format_results(results, not quick)}\n\ntotal time {clock(time.monotonic() - start)}\npictures of '
          f'predictions beside ground truth: {os.path.relpath(out / "pictures")}\nreport, to open in a browser: '
          f'{os.path.relpath(out / REPORT)}', flush=True)
    low = [f'{label} {value:.3f} is below {model.metrics[label].bar:.2f}' for model, figures, *_ in results
           for label, value in figures.items() if value < model.metrics[label].bar]
    if low and not quick:
        print(f'demo failed: {", ".join(low)}', flush=True)
        return 1
    return 0


def _run(root, folder, out, quick):
    train, val = (8, 4) if quick else (160, 40)
    duration = 'a minute' if quick else f'{MINUTES} minutes'
    print(f"""From drawn shapes to a trained and tested detector and segmentor: about {duration} on 2 cores.
  1. draw {train} images for training and {val} for validation, in COCO's and in ADE20K's format
  2. train and test {MODELS[0].title} ({MODELS[0].config}) from random weights
  3. train and test {MODELS[1].title} ({MODELS[1].config}) from random weights
  4. draw predictions beside the ground truth
  5. write a report of both trainings""", flush=True)
    print('\ndraw the data', flush=True)
    for generate, name in ((shapes.generate_coco, 'coco'), (shapes.generate_ade, 'ade')):
        path = folder / 'data' / 'shapes' / name
        made = generate(path, train=train, val=val)
        print(f'    {os.path.relpath(path)}: {"made" if made else "is there already"}', flush=True)
    results = [(model, *train_and_test(model, root, folder, out, quick)) for model in MODELS]

    from mmengine.config import Config
    print('\ndraw predictions beside the ground truth', flush=True)
    for model, kind, pictures, columns in zip(MODELS, ('detection', 'segmentation'),
                                              (instance_pictures, segmentation_pictures), (2, 1)):
        dataset = Config.fromfile(root / model.config).test_dataloader.dataset
        predictions = out / Path(model.config).stem / 'test' / model.predictions
        draw_pictures(pictures(dataset, predictions, folder), out / 'pictures' / kind, columns)

    print('\nwrite the report', flush=True)
    work_dirs = [os.path.relpath(out / Path(model.config).stem, folder) for model in MODELS]
    run_step(['python', os.path.relpath(root / 'tools' / 'report.py', folder), *work_dirs, '--out',
              os.path.relpath(out / REPORT, folder)], folder, out / 'report.log')
    return results


def main(args):
    """Run the demo by a command line; return its exit code."""
    root = Path(__file__).resolve().parents[2]
    return run(root, root / 'work_dirs' / 'quick' if args.quick else root, args.quick)
