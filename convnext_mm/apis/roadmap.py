"""Show the roadmap from ResNet to ConvNeXt beside what is published, and train its steps."""
import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from convnext_mm.apis.demo import COMMAND, StepFailed, run_step
from convnext_mm.datasets import shapes
from convnext_mm.engine.run_status import read_status
from convnext_mm.evaluation.roadmap import collect_rows, format_rows
from convnext_mm.published.roadmap import REGIMES, STEPS, find_step
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place
from convnext_mm.utils.progress import Line, clock
from convnext_mm.visualization.figures import check_figure
from convnext_mm.visualization.report.runs import read_run
from convnext_mm.visualization.roadmap import draw_roadmap


class Data(NamedTuple):
    """What steps are trained on.

    Attributes:
        column (str): Title of the accuracies that are measured on it.
        configs (str): Names of the configs, with the regime in braces.
        folder (str): Where it is.
        options (tuple[str]): More arguments of the training.
    """

    column: str
    configs: str
    folder: str
    options: tuple = ()


DATA = {
    'drawn': Data('drawn shapes, not comparable', 'convnext_mm::roadmap/drawn.py', 'data/shapes/classes'),
    'imagenet': Data('measured', 'convnext_mm::roadmap/{regime}_imagenet.py', 'data/imagenet',
                     ('--effective-batch-size', '4096')),
}
METRIC = 'accuracy/top1'


def parse_steps(words: list[str]) -> list[int]:
    """Return the numbers of steps given by name or number, in their order; ``all`` is every step.

    Raises:
        UserError: There is no such step.
    """
    if words == ['all']:
        return list(range(len(STEPS)))
    return sorted({find_step(int(word) if word.isdecimal() else word) for word in words})


def place_of(work_dir: Path, regime: str, number: int) -> Path:
    """Return the work dir of a step's training."""
    return work_dir / regime / STEPS[number].name


def read_measured(work_dir: Path) -> dict[tuple[str, str], float]:
    """Return the accuracy in percent of every finished training below a folder, by regime and name of the step."""
    measured = {}
    for regime in REGIMES:
        for number, step in enumerate(STEPS):
            folder = place_of(work_dir, regime, number)
            if read_status(folder).get('state') == 'finished':
                found = [line[METRIC] for line in read_run(folder).metrics if METRIC in line]
                if found:
                    measured[regime, step.name] = found[-1]
    return measured


def train_steps(numbers: list[int], regime: str, data: Data, work_dir: Path) -> None:
    """Train steps one after the other, each by the command `train`; those that are finished are left out.

    Raises:
        StepFailed: A training failed or was stopped; the next call goes on with it.
    """
    done = read_measured(work_dir)
    left = [number for number in numbers if (regime, STEPS[number].name) not in done]
    print(f'{len(left)} of {len(numbers)} steps to train in {os.path.relpath(work_dir)}', flush=True)
    begun = time.monotonic()
    for count, number in enumerate(left):
        rest = f', about {clock((time.monotonic() - begun) / count * (len(left) - count))} left' if count else ''
        print(f'\n{regime}, step {number}: {STEPS[number].name} ({count + 1} of {len(left)}{rest})', flush=True)
        folder, config = place_of(work_dir, regime, number), data.configs.format(regime=regime)
        options = [f'model.backbone.regime={regime}', f'model.backbone.step={STEPS[number].name}']
        run_step([*COMMAND, 'train', config, '--work-dir', str(folder), '--resume', *data.options, '--cfg-options',
                  *options], Path.cwd(), folder / 'train.log')
    print(f'\n{len(left)} steps in {clock(time.monotonic() - begun)}', flush=True)


def _prepare(name, data):
    """Make the drawn data, or make sure that the other is there."""
    if name == 'drawn':
        made = shapes.generate_classes(data.folder)
        print(f'{data.folder}: {"made" if made else "is there already"}', flush=True)
    elif not Path(data.folder).is_dir():
        raise UserError(f'--data {name}: {data.folder} does not exist; expected ImageNet-1K there, with the folders '
                        'train and val of a folder for each class')


def main(args: argparse.Namespace) -> int:
    """Train as asked, then print the table, draw the picture, and print its path; return the exit code."""
    numbers = parse_steps(args.train or [])
    data, work_dir = DATA[args.data], Path(args.work_dir, args.data)
    check_figure('--out', args.out)
    if numbers:
        check_place('--work-dir', args.work_dir, is_folder=True)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            if numbers:
                _prepare(args.data, data)
                train_steps(numbers, args.regime, data, work_dir)
        except StepFailed as failure:
            return failure.code if failure.code > 0 else 128 - failure.code
        except KeyboardInterrupt:
            print('\ninterrupted; the same command goes on', flush=True)
            return 130
        line = Line(sys.stderr)
        rows = collect_rows(read_measured(work_dir), lambda name: line.show(f'counting {name}'))
        line.end(f'{len(rows)} networks counted')
        draw_roadmap(rows, args.out, data.column)
    print(json.dumps(rows) if args.json else f'{format_rows(rows, data.column)}\n{args.out}')
    return 0
