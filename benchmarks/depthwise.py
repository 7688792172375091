"""Time the depthwise 7x7 kernels of a GPU beside torch's and beside their limits: python benchmarks/depthwise.py

Forward, input's and weight's gradient, of the maps of a ConvNeXt-T's stages, in float32, bfloat16 and float16. The
limit is the longer of two times: a copy of what has to be moved, and 49 multiply-adds a value, each at the rate that
this GPU reaches in this run. Prints a table and writes JSON. Half a minute. With --quick and TRITON_INTERPRET=1 in the
environment, small maps on a CPU, to see that all of it runs.
"""
import json
import math
import os
import sys
from pathlib import Path

import environment
import measure
import show
import torch
from limits import COPY_BYTES

from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.models.ops.block import has_kernels
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import whole_file
from convnext_mm.utils.progress import Line
from convnext_mm.utils.text import format_table

TYPES = torch.float32, torch.bfloat16, torch.float16
#: (N, C, H, W): stages of a detector at 800x1280 and of a classifier at 224x224.
SHAPES = ((16, 96, 200, 320), (16, 192, 100, 160), (16, 384, 50, 80), (16, 768, 25, 40), (128, 96, 56, 56),
          (128, 384, 14, 14), (128, 768, 7, 7))
QUICK_SHAPES = (1, 8, 5, 9),
TASKS = 'forward', 'input gradient', 'weight gradient'
TAPS = 49
ROUNDS, QUICK_ROUNDS = 15, 1
#: What the multiply-adds run on where Triton interprets: programs, and turns of each.
QUICK_PROGRAMS = 1, 1
OURS, LIBRARY = 'convnext_mm', "torch's channels-last"


def measure_rates():
    """Return multiply-adds a second in float32, and bytes that a copy reads and writes a second."""
    from multiply_add import LANES, VALUES_A_TURN, multiply_add
    device = environment.device()
    programs, turns = QUICK_PROGRAMS if device == 'cpu' else (
        16 * torch.cuda.get_device_properties(0).multi_processor_count, 200)
    out = torch.empty(programs * LANES, device=device)
    source = torch.ones(COPY_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    calls = {'multiply_add': lambda: multiply_add[programs,](out, turns, LANES), 'copy': lambda: target.copy_(source)}
    for call in calls.values():
        measure.warm_up(call)
    seconds = {name: min(times) for name, times in measure.interleave(calls, dict.fromkeys(calls, 7)).items()}
    return out.numel() * turns * VALUES_A_TURN / seconds['multiply_add'], 2 * source.numel() / seconds['copy']


def calls_of(shape, dtype):
    """Return ``{(task, whose): call}`` of one shape in one type."""
    from convnext_mm.models.ops import depthwise
    c, device = shape[1], environment.device()
    x, grad = (torch.randn(shape, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
               for _ in range(2))
    weight, bias = torch.randn(c, 1, 7, 7, device=device), torch.randn(c, device=device)
    near, near_grad = (t.permute(0, 2, 3, 1) for t in (x, grad))
    cast, cast_bias = weight.to(dtype), bias.to(dtype)

    def backward(*wanted):
        return torch.ops.aten.convolution_backward(grad, x, cast, [c], [1, 1], [3, 3], [1, 1], False, [0, 0], c, wanted)
    taps = depthwise.lay_out(weight)
    # A training step lays the weight out once.
    ours = (lambda: depthwise.convolve(near, depthwise.lay_out(weight), bias),
            lambda: depthwise.convolve(near_grad, taps, bias, flip=True),
            lambda: depthwise.weight_gradient(near, near_grad))
    library = (lambda: torch.conv2d(x, cast, cast_bias, padding=3, groups=c), lambda: backward(True, False, False),
               lambda: backward(False, True, True))
    return {(task, name): call for name, some in ((OURS, ours), (LIBRARY, library)) for task, call in zip(TASKS, some)}


def measure_all(shapes=SHAPES, rounds=ROUNDS):
    """Measure all shapes, types and tasks; return the results, ready for JSON."""
    line, rows = Line(sys.stderr), []
    line.show('what the GPU reaches')
    multiply_adds, copy = measure_rates()
    for shape in shapes:
        for dtype in TYPES:
            name = str(dtype).removeprefix('torch.')
            line.show(f'{shape}, {name}')
            calls = calls_of(shape, dtype)
            warm = {key: measure.warm_up(call) for key, call in calls.items()}
            samples = measure.interleave(calls, dict.fromkeys(calls, rounds), warm)
            values = math.prod(shape)
            limit = max(values * TAPS / multiply_adds, 2 * values * dtype.itemsize / copy)
            for task in TASKS:
                ours, library = (measure.spread(samples[task, whose]) for whose in (OURS, LIBRARY))
                rows.append(dict(shape=shape, precision=name, task=task, limit_seconds=limit, seconds=ours.median,
                                 low=ours.low, high=ours.high, library_seconds=library.median,
                                 bound='copy' if limit > values * TAPS / multiply_adds else 'multiply-add'))
            del calls
    return dict(environment=environment.describe(), multiply_adds=multiply_adds, copy=copy, rows=rows)


def table(results):
    """Return all that is printed in the end."""
    def cells(row):
        return ('x'.join(map(str, row['shape'])), row['precision'], row['task'], f'{1e3 * row["seconds"]:.3f}',
                f'{1e3 * row["low"]:.3f} - {1e3 * row["high"]:.3f}', f'{row["library_seconds"] / row["seconds"]:.2f}',
                f'{100 * row["limit_seconds"] / row["seconds"]:.0f} %', row['bound'])
    header = ('N C H W', '', '', 'ms', 'quartiles', f'x {LIBRARY}', 'of limit', 'which is')
    return (f'{environment.describe_in_words(results["environment"])}\nrates of this run: '
            f'{results["multiply_adds"] / 1e12:.1f} T multiply-adds/s, copy {results["copy"] / 1e12:.2f} TB/s read and '
            f'written\n{format_table(header, map(cells, results["rows"]), left=3)}')


def main(argv=None):
    parser = Parser(description=__doc__)
    parser.add_argument('--quick', action='store_true', help="small maps on a CPU, in Triton's interpreter")
    parser.add_argument('--out', metavar='DIR', help='folder for the results (default: benchmarks/results, of --quick '
                        'work_dirs/benchmarks)')
    args = parser.parse_args(argv)
    place = show.place(args.out, args.quick)
    if args.quick and os.environ.get('TRITON_INTERPRET') != '1':
        raise UserError('--quick needs TRITON_INTERPRET=1 in the environment')
    if not args.quick and not (torch.cuda.is_available() and has_kernels(torch.device('cuda', 0))):
        raise UserError('the depthwise kernels need an NVIDIA GPU of compute capability 8.0, torch 2.7 and Triton: '
                        'there is none here')
    results = measure_all(QUICK_SHAPES, QUICK_ROUNDS) if args.quick else measure_all()
    print(table(results))
    target = Path(place) / f'{environment.file_name(results["environment"])}-depthwise.json'
    with whole_file(target) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + '\n')
    print(target)


if __name__ == '__main__':
    sys.exit(run(main))
