"""Time a model in PyTorch beside its exported files: python benchmarks/export.py CONFIG CHECKPOINT FILE ...

Whole models on images of two sizes, in turn, medians of milliseconds an image. A file of OpenVINO is timed in float32,
which was checked, and in bfloat16, which its plugin for CPUs may take by itself; how many labels are
then those of PyTorch is the last column. Files are those of `tools/export.py`, with `--int8` or without.
"""
import copy
import functools
import statistics
import sys
from pathlib import Path

import measure
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS

from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.apis.config import load_config
from convnext_mm.checkpoint.mmengine_loader import load_checkpoint, register_loader
from convnext_mm.export.check import Case, images_of
from convnext_mm.export.export import detector, segmentor
from convnext_mm.export.facts import check_facts, read_facts
from convnext_mm.export.formats import find_format, open_openvino
from convnext_mm.utils.configs import is_segmentor
from convnext_mm.utils.text import format_table

#: Height and width of the images, by whether it is a segmentor.
SIZES = {True: ((512, 512), (512, 1024)), False: ((480, 640), (800, 1280))}


def open_file(name, cfg):
    """Return ``{column: function}`` for a file."""
    check_facts(name, read_facts(name), copy.deepcopy(cfg))
    path = Path(name)
    if path.suffix == '.xml':
        return {f'{path.name}, {precision}': open_openvino(path, precision) for precision in ('f32', 'bf16')}
    return {path.name: find_format(path).open(path)}


def main(argv=None):
    """Print the table."""
    parser = Parser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('files', nargs='+', metavar='FILE')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--size', nargs=2, type=int, action='append', metavar=('H', 'W'))
    parser.set_defaults(cfg_options=None, work_dir=None, launcher='none', strategy=None)
    args = parser.parse_args(argv)
    cfg = load_config(args)
    register_loader()
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
    load_checkpoint(model, args.checkpoint)
    segments = is_segmentor(cfg.model)
    subject = segmentor(model, False) if segments else detector(model)
    files = {column: call for name in args.files for column, call in open_file(name, cfg).items()}
    rows = []
    for height, width in args.size or SIZES[segments]:
        images, size = images_of(Case(1, height, width)), ((height, width),) if segments else ()
        calls = {'PyTorch': functools.partial(subject.reference, images, *size), **{
            column: functools.partial(call, images.numpy(), *size) for column, call in files.items()}}
        with torch.no_grad():
            for call in calls.values():
                measure.warm_up(call)
            samples = measure.interleave(calls, dict.fromkeys(calls, args.rounds))
            same = labels_kept(calls) if segments else {}
        rows += [(f'{height} x {width}', column, f'{1e3 * statistics.median(seconds):.1f}', same.get(column, '-'))
                 for column, seconds in samples.items()]
    columns = 'images', 'runs by', 'ms', 'labels of PyTorch'
    print(f'{torch.get_num_threads()} threads\n{format_table(columns, rows, left=2)}')


def labels_kept(calls):
    """Return for each call which share of its labels are those of the first one."""
    labels = {column: torch.as_tensor(call()[0]) for column, call in calls.items()}
    return {column: f'{(found == labels["PyTorch"]).float().mean():.3%}' for column, found in labels.items()}


if __name__ == '__main__':
    sys.exit(run(main))
