"""The paper's claim measured again, ConvNeXt against Swin of the same size: python benchmarks/throughput.py [--quick]

Classifiers of 224x224 images as in the paper's table 1 and appendix: inference in TF32, ConvNeXt channels-last. Swin is
timm's, ConvNeXt this package's backbone behind a pooling and a linear layer, and timm's whole. Random weights. Prints
a table and writes JSON and a PNG chart. A minute on a GPU.
"""
import argparse
import sys

import environment
import measure
import show
import torch
import torch.nn as nn

from convnext_mm import ConvNeXt
from convnext_mm.cli import Parser, run
from convnext_mm.errors import UserError
from convnext_mm.progress import Progress
from convnext_mm.tables import format_table

#: Ours, and timm's names of the ConvNeXt and the Swin of the same size; images of a batch.
SIZES = {'tiny': ('convnext_tiny', 'swin_tiny_patch4_window7_224', 256),
         'small': ('convnext_small', 'swin_small_patch4_window7_224', 256),
         'base': ('convnext_base', 'swin_base_patch4_window7_224', 128),
         'large': ('convnext_large', 'swin_large_patch4_window7_224', 64)}
QUICK = {'tiny': (*SIZES['tiny'][:2], 1)}
ROUNDS = 7
SIDE, CLASSES = 224, 1000
OURS, TIMM, SWIN = 'convnext_mm', 'timm ConvNeXt', 'timm Swin'


class Classifier(nn.Module):
    """The backbone's last map, pooled, and a linear layer behind it.

    The paper normalises after pooling, the backbone before: as many operations or more.
    """

    def __init__(self, arch):
        super().__init__()
        self.backbone = ConvNeXt(arch, out_indices=(3,))
        self.head = nn.Linear(self.backbone.channels[-1], CLASSES)

    def forward(self, x):
        return self.head(self.backbone(x)[-1].mean((2, 3)))


def measure_size(arch, names, batch, device):
    """Seconds of a batch, name -> samples."""
    import timm
    convnext, swin = names
    models = {OURS: Classifier(arch), TIMM: timm.create_model(convnext), SWIN: timm.create_model(swin)}
    images = torch.randn(batch, 3, SIDE, SIDE, device=device)
    near = images.contiguous(memory_format=torch.channels_last)

    def call(name):
        layout = torch.contiguous_format if name == SWIN else torch.channels_last
        model, x = models[name].eval().to(device, memory_format=layout), images if name == SWIN else near

        def forward():
            with torch.no_grad():
                model(x)
        return forward
    calls = {name: call(name) for name in models}
    warm = {name: measure.warm_up(call) for name, call in calls.items()}
    return measure.interleave(calls, dict.fromkeys(calls, ROUNDS), warm)


def measure_all(sizes):
    """Rows of all sizes, ready for JSON."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    described, line, rows = environment.describe(), Progress(sys.stderr), []
    for arch, (*names, batch) in sizes.items():
        line.show(arch)
        for name, samples in measure_size(arch, names, batch, described['device']).items():
            rows.append(dict(size=arch, batch=batch, name=name, precision='float32',
                             **measure.spread(samples)._asdict()))
    return dict(environment=described, rows=rows)


def table(results):
    """All that is printed in the end."""
    lines = []
    for (arch,), rows in show.grouped(results['rows'], 'size').items():
        speeds = {row['name']: row['batch'] / row['median'] for row in rows}
        lines.append((arch, str(rows[0]['batch']), *(f'{speeds[name]:.1f}' for name in (OURS, TIMM, SWIN)),
                      *(f'{speeds[name] / speeds[SWIN]:.2f}' for name in (OURS, TIMM))))
    header = ('size', 'batch', OURS, TIMM, SWIN, f'{OURS} over Swin', f'{TIMM} over Swin')
    arithmetic = 'TF32' if results['environment']['device'] == 'cuda' else 'float32'
    return (f'{environment.describe_in_words(results["environment"])}\nimages/s, {arithmetic}\n'
            f'{format_table(header, lines)}')


def chart(results):
    """A panel for each size."""
    groups = show.grouped(results['rows'], 'size')
    panels = [(f'{arch}, batch {rows[0]["batch"]}: ms', rows, lambda row: 1e3 * row['median'], True)
              for (arch,), rows in groups.items()]
    return show.chart('Classifiers of 224x224 images in TF32: median with quartiles', results['environment'], panels,
                      results['rows'], len(panels))


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='the smallest on one image, in a minute')
    parser.add_argument('--out', metavar='DIR', help='folder for the results (default: benchmarks/results, of --quick '
                        'work_dirs/benchmarks)')
    args = parser.parse_args(argv)
    place = show.place(args.out, args.quick)
    try:
        import timm  # noqa: F401
    except ImportError:
        raise UserError('this benchmark needs timm: pip install timm') from None
    results = measure_all(QUICK if args.quick else SIZES)
    print(table(results))
    show.write(results, chart, place / f'{environment.file_name(results["environment"])}-throughput')


if __name__ == '__main__':
    sys.exit(run(main))
