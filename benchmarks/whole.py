"""Time the parts of whole models in prediction, in float32 and bfloat16: python benchmarks/whole.py [--quick]

The paper's Cascade Mask R-CNN and UPerNet with ConvNeXt-T on random weights: one class wins everywhere, so that boxes
and masks are made. Float32 and bfloat16 (`--precision bfloat16` of the tools) take turns. Prints tables and writes
JSON. Five minutes on two cores.
"""
import argparse
import copy
import sys
import time

import detector
import environment
import measure
import show
import torch.nn as nn
from mmengine.logging import MMLogger

from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.models.packing import pack_weights
from convnext_mm.models.precision import predict_in_bfloat16
from convnext_mm.utils.progress import Line
from convnext_mm.utils.text import format_table

METHODS = 'UPerNet', 'Cascade Mask R-CNN'
ROUNDS, QUICK_ROUNDS = 5, 1
REST = 'all else: images, boxes, masks, labels'


def find_parts(model):
    """Yield (name, module) of what is timed; the elements of a list have the name of the list."""
    def flat(name, module):
        for part in module if isinstance(module, nn.ModuleList) else [module]:
            yield name, part
    for name, child in model.named_children():
        if name == 'roi_head':
            for inner, part in child.named_children():
                yield from flat(inner, part)
        elif name not in ('data_preprocessor', 'auxiliary_head'):
            yield name, child
            for inner, part in child.named_children() if name == 'decode_head' else ():
                yield from flat(f'{name}.{inner}', part)


class Clock:
    """Adds up the seconds of each part of a model, without those of parts within it."""

    def __init__(self, model):
        self.seconds, self.running = {}, []
        for name, part in find_parts(model):
            part.forward = self._timed(name, part.forward)

    def _timed(self, name, forward):
        def call(*args, **kwargs):
            self.running.append(0)
            start = time.perf_counter()
            try:
                return forward(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.seconds[name] = self.seconds.get(name, 0) + spent - self.running.pop()
                if self.running:
                    self.running[-1] += spent
        return call


def variants(method, plan, device):
    """Return ``{name: model that predicts as the tools have it}``, all of equal weights."""
    plain = detector.Model(method, detector.peers.OURS, plan, device)
    half = copy.deepcopy(plain)
    predict_in_bfloat16(half.model.eval())
    for model in (plain, half):
        pack_weights(model.model)
    return {'float32': plain, 'bfloat16': half}


def measure_method(method, plan, rounds, device):
    """Return a row of each variant: samples of a batch, and seconds of the parts."""
    MMLogger.get_instance('benchmark', log_level='ERROR')
    detector.start()
    models = variants(method, plan, device)
    clocks = {name: Clock(model.model) for name, model in models.items()}
    calls = {name: model.inference for name, model in models.items()}
    warm = {name: measure.warm_up(call) for name, call in calls.items()}
    for clock in clocks.values():
        clock.seconds.clear()
    samples, rows = measure.interleave(calls, dict.fromkeys(calls, rounds), {}), []
    for name, model in models.items():
        seconds = {part: spent / rounds for part, spent in clocks[name].seconds.items()}
        seconds[REST] = sum(samples[name]) / rounds - sum(seconds.values())
        rows.append(dict(method=method, precision=name, size=model.size, batch=len(model.batch['inputs']),
                         samples=samples[name], warm=warm[name], parts=seconds,
                         **measure.spread(samples[name])._asdict()))
    return rows


def table(results):
    """Return all that is printed in the end."""
    parts = [environment.describe_in_words(results['environment'])]
    for (method,), (plain, half) in show.grouped(results['rows'], 'method').items():
        lines = [(name, *(f'{1e3 * row["parts"].get(name, 0):.0f}' for row in (plain, half)),
                  f'{100 * seconds / sum(plain["parts"].values()):.0f} %') for name, seconds in plain['parts'].items()]
        lines.append(('median of a batch', *(f'{1e3 * row["median"]:.0f}' for row in (plain, half)),
                      f'{plain["median"] / half["median"]:.2f} times as fast'))
        parts.append(f'{method}, {plain["batch"]} x {plain["size"]}, ms\n'
                     f'{format_table(("", "float32", "bfloat16", "of float32"), lines)}')
    return '\n\n'.join(parts)


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='small networks on small images')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS, help='what is measured (all)')
    parser.add_argument('--out', metavar='DIR', help='folder for the results (default: benchmarks/results, of --quick '
                        'work_dirs/benchmarks)')
    args = parser.parse_args(argv)
    place, device = show.place(args.out, args.quick), environment.device()
    plan, rounds = (detector.QUICK, QUICK_ROUNDS) if args.quick else (detector.full_plan(device), ROUNDS)
    results, line = dict(environment=environment.describe(), quick=args.quick, rows=[]), Line(sys.stderr)
    for method in args.methods:
        line.show(method)
        results['rows'] += measure.alone(measure_method, method, plan, rounds, device)
    print(table(results))
    print(show.write_json(results, place / f'{environment.file_name(results["environment"])}-whole'))


if __name__ == '__main__':
    sys.exit(run(main))
