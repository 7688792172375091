"""The paper's claim measured again, ConvNeXt against Swin of the same size: python benchmarks/throughput.py [--quick]

Classifiers of 224x224 images as in the paper's table 12: inference in TF32, ConvNeXt channels-last. Swin is timm's,
ConvNeXt timm's and this package's backbone with a classifier's head. Random weights. Prints a table, and writes JSON,
after every size, and a PNG chart. A minute on a GPU, half an hour on two cores.
"""
import argparse
import sys
from typing import NamedTuple

import environment
import measure
import show
import torch
import torch.nn as nn

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.published.archs import Arch
from convnext_mm.published.imagenet import published_imagenet
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.progress import Line
from convnext_mm.utils.text import format_table

SIDE, CLASSES = 224, 1000
OURS, TIMM, SWIN = 'convnext_mm', 'timm ConvNeXt', 'timm Swin'
#: Images a second of ConvNeXt and of Swin on an A100.
PAPER = {row['arch']: (row['convnext'], row['swin']) for row in published_imagenet()['throughput']}


class Plan(NamedTuple):
    """How much is measured."""

    #: Size -> images of a batch.
    batches: dict
    rounds: int
    #: Replaces the depths and channels of every size.
    arch: Arch | None = None


FULL = Plan({'tiny': 256, 'small': 256, 'base': 256, 'large': 64}, 9)
QUICK = Plan({'tiny': 2}, 3, Arch((1, 1, 2, 1), (32, 64, 128, 256)))


class Classifier(nn.Module):
    """The backbone as the paper's classifier has it: pooled before the last LayerNorm, and a linear layer."""

    def __init__(self, arch):
        super().__init__()
        self.backbone = ConvNeXt(arch._asdict(), out_indices=(3,))
        self.norm, self.backbone.norm3 = self.backbone.norm3, nn.Identity()
        self.head = nn.Linear(arch.channels[-1], CLASSES)

    def forward(self, x):
        pooled = self.backbone(x)[0].mean((2, 3), keepdim=True)
        return self.head(self.norm(pooled).flatten(1))


def build(size, arch):
    """Return ``{name: classifier}``; a Swin has the channels of the ConvNeXt of its size, and a head for every 32."""
    import timm
    heads = [channels // 32 for channels in arch.channels]
    return {OURS: Classifier(arch),
            TIMM: timm.create_model(f'convnext_{size}', depths=arch.depths, dims=arch.channels),
            SWIN: timm.create_model(f'swin_{size}_patch4_window7_224', embed_dim=arch.channels[0], num_heads=heads)}


def forward_of(model, images):
    """Return a call of a model in eval mode, without gradients."""
    def forward():
        with torch.no_grad():
            return model(images)
    return forward


def measure_size(size, arch, batch, rounds, device):
    """Measure the seconds of a batch; return ``{name: samples}``."""
    images, calls = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).to(device), {}
    for name, model in build(size, arch).items():
        layout = torch.contiguous_format if name == SWIN else torch.channels_last
        calls[name] = forward_of(model.eval().to(device, memory_format=layout), images.to(memory_format=layout))
    warm = {name: measure.warm_up(call) for name, call in calls.items()}
    return measure.interleave(calls, dict.fromkeys(calls, rounds), warm)


def measure_all(plan, save):
    """Measure all sizes; return the results, ready for JSON. ``save`` gets them as they grow."""
    environment.set_tf32(True)
    line, results = Line(sys.stderr), dict(
        environment=environment.describe(), paper=PAPER, quick=plan.arch is not None, rows=[])
    for size, batch in plan.batches.items():
        line.show(f'{size}, batch {batch}')
        samples = measure_size(size, plan.arch or ARCHS[size], batch, plan.rounds, results['environment']['device'])
        results['rows'] += [dict(size=size, batch=batch, name=name, precision='float32', samples=some,
                                 **measure.spread(some)._asdict()) for name, some in samples.items()]
        save(results)
    return results


def table(results):
    """Return all that is printed in the end."""
    lines = []
    for (size,), rows in show.grouped(results['rows'], 'size').items():
        speeds = {row['name']: row['batch'] / row['median'] for row in rows}
        convnext, swin = results['paper'][size]
        lines.append((size, str(rows[0]['batch']), *(f'{speeds[name]:.1f}' for name in (OURS, TIMM, SWIN)),
                      *(f'{speeds[name] / speeds[SWIN]:.2f}' for name in (OURS, TIMM)), f'{convnext / swin:.2f}'))
    header = ('', 'batch', OURS, TIMM, SWIN, f'{OURS} / Swin', 'timm / Swin', 'paper / Swin, A100')
    precision = 'TF32' if results['environment'].get('tf32_products') else 'float32'
    note = "\n\n--quick: a look at what is measured; the figures are not to be compared with the paper's"
    return (f'{environment.describe_in_words(results["environment"])}\nimages/s in {precision}, median of '
            f'{len(results["rows"][0]["samples"])} rounds, and as a multiple of Swin\'s\n'
            f'{format_table(header, lines)}{note if results["quick"] else ""}')


def chart(results):
    """Return a figure with a panel for each size."""
    groups = show.grouped(results['rows'], 'size')
    panels = [(f'{size}, batch {rows[0]["batch"]}: images/s', rows, lambda row: row['batch'] / row['median'], False)
              for (size,), rows in groups.items()]
    return show.chart('Classifiers of 224x224 images, TF32 where there is a GPU: medians', results['environment'],
                      panels, results['rows'], len(panels))


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='small networks on two images, in half a minute')
    parser.add_argument('--out', metavar='DIR', help='folder for the results (default: benchmarks/results, of --quick '
                        'work_dirs/benchmarks)')
    args = parser.parse_args(argv)
    place = show.place(args.out, args.quick)
    try:
        import timm  # noqa: F401
    except ImportError:
        raise UserError('this benchmark needs timm: pip install timm') from None
    path = place / f'{environment.file_name(environment.describe())}-throughput'
    results = measure_all(QUICK if args.quick else FULL, lambda results: show.write_json(results, path))
    print(table(results))
    show.write(results, chart, path)


if __name__ == '__main__':
    sys.exit(run(main))
