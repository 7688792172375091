"""Compare the training transforms of configs/imagenet with mmpretrain's own of its ConvNeXt, on the same images.

`python benchmarks/imagenet_transforms.py FOLDER` reads all JPEGs below a folder, or draws some of ImageNet's usual
size, and prints images a second of processor time: the medians of rounds in turn. mmpretrain leaves the normalisation
to the model; its second row has that, too. A minute.
"""
import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import measure
import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.apis.config import read_config
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import format_table

OURS, THEIRS = 'configs/imagenet/convnext_t_in1k.py', 'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'
NAMES = 'configs/imagenet', "mmpretrain's", "mmpretrain's, normalised"
ENDINGS = '.jpg', '.jpeg'


def draw(folder: Path, number: int) -> list[Path]:
    """Write images of 500 x 375 as JPEGs: large patches of colour with fine noise."""
    rng, files = np.random.default_rng(0), []
    for i in range(number):
        patches = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375), 3)
        noise = rng.integers(-12, 13, (375, 500, 3))
        files.append(folder / f'{i}.jpg')
        Image.fromarray((np.asarray(patches) + noise).clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def passes(files: Sequence[Path]) -> dict[str, Callable[[int], None]]:
    """Return for each name a call that has all images augmented once, from the random states of a seed."""
    ours, theirs = read_config(OURS), get_config(THEIRS)
    init_default_scope('mmpretrain')
    preprocessor = MODELS.build(dict(theirs.data_preprocessor, type='ClsDataPreprocessor'))

    def one_pass(pipeline, finish=lambda sample: None):
        transform = Compose(pipeline)

        def call(seed):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            for file in files:
                finish(transform(dict(img_path=str(file), gt_label=0)))
        return call

    def normalise(sample):
        preprocessor(dict(inputs=sample['inputs'][None], data_samples=[sample['data_samples']]), training=True)

    of_theirs = theirs.train_dataloader.dataset.pipeline
    return dict(zip(NAMES, (one_pass(ours.train_dataloader.dataset.pipeline), one_pass(of_theirs),
                            one_pass(of_theirs, normalise))))


def interleave(calls: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of processor time of each call in each round, of calls that are warm; they take turns.

    Each round has a seed of its own: the same seed means other crops and operations for each, of other cost.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for seed in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call(seed)
            samples[name].append(time.process_time() - start)
    return samples


def report(samples: dict[str, list[float]], images: int) -> str:
    """Return a table of images a second, from the seconds of passes over ``images`` each."""
    spreads = {name: measure.spread(seconds) for name, seconds in samples.items()}
    theirs = spreads[NAMES[1]].median
    return format_table(('transforms of', 'images/s', 'quartiles', "times mmpretrain's"), [
        (name, f'{images / spread.median:.1f}', f'{images / spread.high:.1f} to {images / spread.low:.1f}',
         f'{theirs / spread.median:.2f}') for name, spread in spreads.items()])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', nargs='?', help='of images (default: 48 drawn ones)')
    parser.add_argument('--rounds', type=int, default=60)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as drawn:
        files = draw(Path(drawn), 48) if args.folder is None else sorted(
            path for path in Path(args.folder).rglob('*') if path.suffix.lower() in ENDINGS)
        if not files:
            raise UserError(f'folder {args.folder!r} has no JPEGs: expected files that end in {", ".join(ENDINGS)}')
        calls = passes(files)
        for call in calls.values():
            call(0)
        samples = interleave(calls, args.rounds)
    print(f'{len(files)} images, {args.rounds} rounds, processor time\n{report(samples, len(files))}')


if __name__ == '__main__':
    sys.exit(run(main))
