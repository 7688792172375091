"""The main job on drawn shapes: make the data, train and test a classifier, a detector and a segmentor, show what they
predict."""
import json
import os
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
from convnext_mm.drawing import contact_sheet, write_picture
from convnext_mm.utils.needed import is_missing
from convnext_mm.utils.progress import Line, clock
from convnext_mm.utils.text import format_table

#: Of a run on two cores of a machine that does nothing else, without a GPU.
MINUTES = 11
CORES = os.cpu_count() or 1
#: Models that are trained at a time. They are too small to gain from several cores each.
AT_ONCE = min(3, CORES)
#: Works from a wheel as from a clone.
COMMAND = ('python', '-m', 'convnext_mm')
#: Folder of the pictures, below the folder of the demo.
PICTURES = 'pictures'
#: Page about the trainings, below the folder of the demo.
REPORT = 'report.html'
#: Images for training and for validation, of a whole run and of a quick one.
DATA = {'classes': ((1500, 120), (16, 8)), 'coco': ((160, 40), (8, 4)), 'ade': ((160, 40), (8, 4))}
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
    """What is trained and tested.

    Attributes:
        title (str): Its name.
        config (str): Its name.
        predictions (str | None): File or folder of the stored predictions, below the folder of the test; None for
            none.
        pictures (str): Folder of the pictures, below ``PICTURES``.
        columns (int): Of their contact sheet.
        quick (tuple[str]): Settings of a quick run.
        metrics (dict[str, Metric]): By their labels.
        needs (tuple[str]): Packages without which it is left out.
    """

    title: str
    config: str
    predictions: str | None
    pictures: str
    columns: int
    quick: tuple
    metrics: dict
    needs: tuple = ()


MODELS = (
    Model('Classifier', 'convnext_mm::demo/classifier.py', None, 'classification', 4,
          ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1'),
          {'top-1': Metric('accuracy/top1', .95)}, ('mmpretrain', 'timm')),
    Model('Cascade Mask R-CNN', 'convnext_mm::demo/cascade.py', 'predictions.json', 'detection', 2,
          ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1'),
          {'box AP': Metric('coco/bbox_mAP', .80), 'mask AP': Metric('coco/segm_mAP', .80)}),
    Model('UPerNet', 'convnext_mm::demo/upernet.py', 'predictions', 'segmentation', 1,
          ('train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2'),
          {'mIoU': Metric('mIoU', .85)}))


class StepFailed(Exception):
    """A command of the demo ended with an exit code other than 0."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


def read_progress(line):
    """Return a line of mmengine's log in short, or None where it tells no progress.

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
    seconds, = run_together({Path(log).stem: follow_step(command, folder, log)})
    print(f'    done in {clock(seconds)}', flush=True)
    return seconds


def follow_step(command, folder, log, threads=None):
    """Run a command as :func:`run_step`: a generator that gives its progress in short while it runs, ends it when it is
    closed, and returns the seconds taken. ``threads`` are those of its OpenMP, where the user sets none.

    Raises:
        StepFailed: After showing the end of the log.
    """
    start, text, rest = time.monotonic(), '', ''
    print(f'    $ {shlex.join(command)}\n    log: {os.path.relpath(log)}', flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w') as output, open(log, errors='replace') as written:
        process = subprocess.Popen([sys.executable, *command[1:]], cwd=folder, stdout=output, stderr=subprocess.STDOUT,
                                   env={**({'OMP_NUM_THREADS': str(threads)} if threads else {}), **os.environ})
        try:
            running = True
            while running:
                # Asked before reading, so that what a process wrote before its end is read.
                running = process.poll() is None
                *lines, rest = (rest + written.read()).split('\n')
                *_, text = [text, *filter(None, map(read_progress, lines))]
                yield text
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    seconds = time.monotonic() - start
    if process.returncode:
        print(f'    {shlex.join(command[2:5])} failed with exit code {process.returncode} after {clock(seconds)}; '
              'the end of its log:', flush=True)
        with open(log, errors='replace') as written:
            print(''.join(deque(written, TAIL)).rstrip(), flush=True)
        raise StepFailed(process.returncode)
    return seconds


def run_together(jobs):
    """Run generators, ``AT_ONCE`` at a time, and show what they give in one line; return what they return.

    Args:
        jobs (dict): Generators by their names; one that ends with an error ends the others.
    """
    line, waiting, running, results = Line(indent='    '), list(jobs), [], {}
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(waiting.pop(0))
            texts = []
            for name in running[:]:
                try:
                    text = next(jobs[name])
                    texts.extend([f'{name}: {text}'] if text else [])
                except StopIteration as end:
                    results[name] = end.value
                    running.remove(name)
            if texts:
                line.show(' | '.join(texts))
            time.sleep(.3)
    finally:
        for job in jobs.values():
            job.close()
    return [results[name] for name in jobs]


def read_metrics(test_dir):
    """Return the figures that the test wrote into its work dir, as fractions by key, without those of no value."""
    figures = json.loads((test_dir / 'evaluation.json').read_text())['figures']
    return {figure['key']: figure['measured'] / 100 for figure in figures if figure['measured'] is not None}


def train_and_test(model, folder, out, quick):
    """Train and test a model by the commands, with pictures: a generator as :func:`follow_step`; it returns figures
    (label -> fraction) and both seconds."""
    def relative(path):
        return os.path.relpath(path, folder)

    train_dir, threads = out / Path(model.config).stem, max(1, CORES // AT_ONCE)
    test_dir = train_dir / 'test'
    options = ['--cfg-options', 'default_hooks.logger.interval=1', *model.quick] if quick else []
    print(f'\ntrain {model.title}', flush=True)
    train_time = yield from follow_step([*COMMAND, 'train', model.config, '--work-dir', relative(train_dir),
                                         '--deterministic', *options], folder, train_dir / 'train.log', threads)
    print(f'    {model.title} is trained after {clock(train_time)}', flush=True)
    checkpoint = relative((train_dir / 'last_checkpoint').read_text().strip())
    print(f'\ntest {model.title}', flush=True)
    stored = ['--out', relative(test_dir / model.predictions)] if model.predictions else []
    test_time = yield from follow_step([*COMMAND, 'test', model.config, checkpoint, '--work-dir', relative(test_dir),
                                        *stored, '--show-dir', relative(out / PICTURES / model.pictures)], folder,
                                       test_dir / 'test.log', threads)
    print(f'    {model.title} is tested after {clock(test_time)}', flush=True)
    figures = read_metrics(test_dir)
    return {label: figures[metric.key] for label, metric in model.metrics.items()}, train_time, test_time


def draw_sheet(folder, columns):
    """Lay pictures from all over a folder out in three rows, as a PNG of the folder's name beside it."""
    files = sorted(folder.rglob('*.png'))
    count = min(3 * columns, len(files))
    pictures = [np.array(Image.open(files[i * len(files) // count])) for i in range(count)]
    write_picture(folder.with_suffix('.png'), contact_sheet(pictures, columns))


def format_results(results, with_bars):
    """Return the figures of all models, with the time each took, as lines of text.

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


def failed_bars(results):
    """Return a line for each figure that is below its bar; results as in :func:`format_results`."""
    return [f'{label} {value:.3f} is below {model.metrics[label].bar:.2f}' for model, figures, *_ in results
            for label, value in figures.items() if value < model.metrics[label].bar]


def run(folder, quick=False):
    """Do the whole job and say what happens.

    Args:
        folder (Path): Where ``data/shapes`` and ``work_dirs/demo`` are made.
        quick (bool): Two iterations on a handful of images, without bars: whether everything works, not how well.

    Returns:
        int: 0; 1 where a figure is below its bar; a failed step's exit code; 130 when interrupted.
    """
    start = time.monotonic()
    folder = Path(folder).resolve()
    out = folder / 'work_dirs' / 'demo'
    try:
        results = _run(folder, out, quick)
    except StepFailed as failure:
        # A process that a signal ended has a negative code; shells show 128 more than the signal.
        return failure.code if failure.code > 0 else 128 - failure.code
    except KeyboardInterrupt:
        print('\ninterrupted', flush=True)
        return 130
    print(f'\n{format_results(results, not quick)}\n\ntotal time {clock(time.monotonic() - start)}\npictures of '
          f'predictions beside ground truth: {os.path.relpath(out / PICTURES)}\nreport, to open in a browser: '
          f'{os.path.relpath(out / REPORT)}', flush=True)
    low = failed_bars(results)
    if low and not quick:
        print(f'demo failed: {", ".join(low)}', flush=True)
        return 1
    return 0


def choose_models():
    """Return the models whose packages are installed, and say which others are left out."""
    chosen = []
    for model in MODELS:
        lacking = list(filter(is_missing, model.needs))
        if lacking:
            print(f'{model.title} is left out: it needs {" and ".join(lacking)}, not installed here', flush=True)
        else:
            chosen.append(model)
    return chosen


def _run(folder, out, quick):
    """Do the steps of the job; return the results as :func:`format_results` takes them."""
    models, duration = choose_models(), 'a minute' if quick else f'{MINUTES} minutes'
    print(f'From drawn shapes to a trained and tested classifier, detector and segmentor: about {duration} on 2 cores.'
          "\n  1. draw images, in folders of classes, in COCO's and in ADE20K's format", flush=True)
    for number, model in enumerate(models, 2):
        print(f'  {number}. train and test {model.title} ({model.config}) from random weights', flush=True)
    print(f'  {len(models) + 2}. write a report of the trainings\nTests draw predictions beside the truth.\n\n'
          'draw the data', flush=True)
    for name, counts in DATA.items():
        path = folder / 'data' / 'shapes' / name
        train, val = counts[quick]
        made = getattr(shapes, f'generate_{name}')(path, train=train, val=val)
        print(f'    {os.path.relpath(path)}, {train} images for training and {val} for validation: '
              f'{"made" if made else "is there already"}', flush=True)
    trained = run_together({model.title: train_and_test(model, folder, out, quick) for model in models})
    results = [(model, *found) for model, found in zip(models, trained)]
    for model in models:
        draw_sheet(out / PICTURES / model.pictures, model.columns)

    print('\nwrite the report', flush=True)
    work_dirs = [os.path.relpath(out / Path(model.config).stem, folder) for model in models]
    run_step([*COMMAND, 'report', *work_dirs, '--out', os.path.relpath(out / REPORT, folder)], folder,
             out / 'report.log')
    return results


def main(args):
    """Run the demo in the current folder by a command line; return its exit code."""
    return run(Path('work_dirs', 'quick') if args.quick else '.', args.quick)
