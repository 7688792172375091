"""Time the ConvNeXt backbone beside its peers, on equal weights: python benchmarks/backbone.py [--quick]

Inference, training step (forward and backward, no drop path) and the bytes that autograd keeps, in float32 and under
bfloat16 autocast; float32 is not TF32. Each size and task has a process of its own, in which all take turns. Prints
tables, and writes JSON, after every size and task, and a PNG chart. Half an hour on two cores; --sizes, --tasks and
--precisions measure a part. --together measures all in one process, with the memory that others left.
"""
import argparse
import sys
import warnings
from typing import NamedTuple

import bars
import environment
import limits
import measure
import peers
import show
import startup
import torch
from mmengine.logging import MMLogger

from convnext_mm import ARCHS
from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.models.arguments import parse_arch
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.progress import Bar, Line

PRECISIONS, TASKS = ('float32', 'bfloat16'), ('inference', 'training')
#: A peer that takes so many times as long as the fastest cannot turn out the fastest.
SLOW = 1.3


class Size(NamedTuple):
    """The images of a measurement."""

    batch: int
    height: int
    width: int

    def __str__(self):
        return f'{self.height}x{self.width}'


class Plan(NamedTuple):
    """How much is measured."""

    arch: str
    sizes: tuple
    #: Seconds for the rounds of one size, by task, and the least and the most rounds.
    seconds: dict
    rounds: tuple
    quick: bool = False
    #: Name -> tasks, sizes and precisions in which a compiled model is measured: a compilation takes up to a minute.
    compiled: dict = {}
    #: Names of those measured in float32 too; all if empty.
    float32: tuple = ()
    #: Whether importing and loading are measured.
    startup: bool = True
    precisions: tuple = PRECISIONS
    tasks: tuple = TASKS
    #: Whether all is measured in this process.
    together: bool = False

    def includes(self, contestant, task, size, precision):
        """Return whether a contestant is measured in a precision, in a task at a size."""
        if contestant.compiled:
            places = self.compiled.get(contestant.name, ((), (), ()))
            return all(value in some for value, some in zip((task, str(size), precision), places))
        return precision != 'float32' or not self.float32 or contestant.name in self.float32


def full_plan(device):
    """Return the plan of a machine: a GPU gets eight times the images, and takes a tenth of the time."""
    factor = 8 if device == 'cuda' else 1
    sizes = tuple(Size(batch * factor, *shape) for batch, *shape in ((16, 224, 224), (2, 512, 512), (1, 800, 1280)))
    if device == 'cuda':
        # What the bars ask for, in bfloat16 the other peers too. Ours is compiled once for all sizes, timm's for each.
        compiled = {peers.OURS_COMPILED: (('inference', 'training'), tuple(map(str, sizes)), ('bfloat16',)),
                    peers.TIMM_COMPILED: (('inference',), ('224x224', '800x1280'), ('bfloat16',))}
        return Plan('tiny', sizes, dict(inference=2, training=3), (3, 15), compiled=compiled,
                    float32=(peers.OURS, peers.MMPRETRAIN), startup=False)
    return Plan('tiny', sizes, dict(inference=60, training=120), (5, 15),
                compiled={peers.OURS_COMPILED: (('inference',), ('512x512',), PRECISIONS)},
                precisions=PRECISIONS if environment.has_bfloat16() else PRECISIONS[:1])


QUICK = Plan('atto', (Size(4, 64, 64), Size(1, 128, 160)), dict(inference=2, training=3), (2, 5),
             quick=True)


class Trial:
    """One contestant in one precision on some images: ``trial()`` runs it once.

    Args:
        contestant (Contestant): Its model is set to the mode that the task wants.
        precision (str): ``float32``, or ``bfloat16`` for autocast.
        task (str): ``inference`` or ``training``.
        images (Tensor): Of the device.
        gradients (list[Tensor], optional): Of the outputs, for training.
    """

    def __init__(self, contestant, precision, task, images, gradients=None):
        self.contestant, self.precision, self.task, self.gradients = contestant, precision, task, gradients
        self.model = contestant.model
        # mmpretrain's returns nothing.
        self.model.train(task == 'training')
        layout = torch.channels_last if contestant.channels_last else torch.contiguous_format
        self.images = images.contiguous(memory_format=layout)
        self.own_gradients = None

    def forward(self):
        """Return the outputs, in the trial's precision."""
        with torch.autocast(self.images.device.type, torch.bfloat16, self.precision == 'bfloat16'):
            return self.model(self.images)

    def backward(self, outputs):
        """Compute the gradients of the parameters."""
        if self.own_gradients is None:
            self.own_gradients = [g.to(output.dtype) for g, output in zip(self.gradients, outputs)]
        torch.autograd.backward(outputs, self.own_gradients)

    def clear(self):
        """Drop the gradients, as an optimizer does."""
        self.model.zero_grad(set_to_none=True)

    def __call__(self):
        if self.task == 'inference':
            with torch.no_grad():
                return self.forward()
        self.clear()
        outputs = self.forward()
        self.backward(outputs)
        return outputs

    def first(self):
        """Run for the first time.

        Returns:
            tuple: Outputs, bytes kept for the backward pass, and the parameters' gradients by official names.
        """
        if self.task == 'inference':
            return self(), None, None
        self.clear()
        kept, outputs = measure.kept_bytes(self.forward, self.model.parameters())
        self.backward(outputs)
        if not self.contestant.equal:
            return outputs, kept, None
        return outputs, kept, peers.official({name: p.grad.contiguous() for name, p in self.model.named_parameters()})

    def peak_bytes(self):
        """Return the most memory of a GPU that a run takes, its parameters included; None elsewhere."""
        if self.images.device.type != 'cuda':
            return None
        self.clear()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self()
        self.clear()
        own = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return own + torch.cuda.max_memory_allocated() - before


def output_gradients(arch, size, device):
    """Return random gradients of the four outputs, the same for all."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(size.batch, c, size.height // (4 * 2 ** i), size.width // (4 * 2 ** i),
                        generator=generator).to(device) for i, c in enumerate(arch.channels)]


def beaten(rows, warm):
    """Return the contestants by which no bar is judged.

    They are of equal architecture, not mmpretrain's, and much slower than the fastest.
    """
    peers_of = {}
    for row in rows:
        if row['equal'] and not row['name'].startswith((peers.OURS, peers.MMPRETRAIN)):
            peers_of.setdefault(row['precision'], []).append((row['name'], row['precision']))
    return {key for keys in peers_of.values() for key in keys if warm[key] > SLOW * min(warm[k] for k in keys)}


def prepare(trial, row, reference):
    """Run a trial for the first time, compare its results with the reference and note what is not timed in ``row``.

    Returns:
        tuple: The reference, outputs and gradients: those of this trial where there was none.
    """
    outputs, row['kept'], grads = trial.first()
    name, precision = row['name'], row['precision']
    if row['equal']:
        reference = reference or ([output.detach() for output in outputs], grads)
        row['outputs_differ'] = peers.check_equal(name, 'outputs', outputs, reference[0], precision)
        if grads is not None and precision == 'float32':
            row['gradients_differ'] = peers.check_equal(
                name, 'gradients', [grads[name] for name in reference[1]], reference[1].values(), precision)
    del outputs, grads
    row['peak_memory'] = trial.peak_bytes()
    return reference


class Cell:
    """One task at one size: trials are added one by one, then timed in turn.

    Args:
        task (str): ``inference`` or ``training``.
        size (Size): Of the images.
        plan (Plan): How much is measured.
        peaks (Peaks): What the machine reaches.
    """

    def __init__(self, task, size, plan, peaks):
        self.task, self.size, self.plan, self.peaks, self.device = task, size, plan, peaks, environment.device()
        arch, generator = parse_arch(plan.arch), torch.Generator().manual_seed(1)
        self.images = torch.randn(size.batch, 3, size.height, size.width, generator=generator).to(self.device)
        self.gradients = output_gradients(arch, size, self.device) if task == 'training' else None
        self.stages = limits.convnext_stages(arch, size.batch, size.height, size.width)
        #: Contestant of another architecture -> the work of its forward pass.
        self.works = {}
        #: Outputs and gradients that all contestants of equal architecture must have.
        self.reference = None
        #: A row of results for each contestant and precision; both -> a call, and the seconds that it took when warm.
        self.rows, self.calls, self.warm = [], {}, {}

    def _row(self, name, precision, equal):
        return dict(task=self.task, size=str(self.size), batch=self.size.batch, name=name, precision=precision,
                    equal=equal)

    def _add_row(self, row, call, seconds, work):
        key = row['name'], row['precision']
        row['limit_seconds'] = self.peaks.seconds(work, row['precision'], self.task)
        self.calls[key], self.warm[key] = call, seconds
        self.rows.append(row)

    def add(self, contestant, precision):
        """Run a contestant until it is warm, and check its results; add it unless it fails."""
        trial = Trial(contestant, precision, self.task, self.images, self.gradients)
        row = self._row(contestant.name, precision, contestant.equal)
        try:
            self.reference = prepare(trial, row, self.reference)
            seconds = measure.warm_up(trial)
        finally:
            trial.clear()
        if contestant.equal:
            work = limits.convnext_work(self.stages)
        else:
            if contestant.name not in self.works:
                self.works[contestant.name] = limits.counted_work(trial.forward)
            work = self.works[contestant.name]
        self._add_row(row, trial, seconds, work)

    def add_limit(self, precision):
        """Add the network's own products and copies alone."""
        call = limits.OwnShapes(self.stages, precision, self.device, self.task)
        row = dict(self._row(limits.OWN_SHAPES, precision, equal=False), kept=None, peak_memory=None,
                   libraries={str(product): found for product, found in call.libraries.items()})
        self._add_row(row, call, measure.warm_up(call), limits.convnext_work(self.stages))

    def measure(self):
        """Time all in turn; return the rows with samples, medians and quartiles."""
        rounds = measure.plan_rounds(self.plan.seconds[self.task], self.warm, beaten(self.rows, self.warm),
                                     *self.plan.rounds)
        bar = Bar(sum(rounds.values()), f'{self.task} {self.size}: runs')
        samples = measure.interleave(self.calls, rounds, self.warm, bar.add)
        for call in self.calls.values():
            if isinstance(call, Trial):
                call.clear()
        for row in self.rows:
            row['samples'] = samples[row['name'], row['precision']]
            row.update(measure.spread(row['samples'])._asdict())
        return self.rows


def measure_cell(contestants, task, size, plan, peaks, missing, progress):
    """Measure all contestants in one task at one size.

    A contestant that fails is noted in ``missing``, unless it is this package's own, whose error is raised.

    Returns:
        list[dict]: A row for each contestant and precision, as ``show.py`` takes them.
    """
    cell = Cell(task, size, plan, peaks)
    for contestant in contestants:
        for precision in plan.precisions:
            if task not in contestant.tasks or not plan.includes(contestant, task, size, precision):
                continue
            progress(f'{task} {size}: {contestant.name}, {precision}')
            try:
                cell.add(contestant, precision)
            except Exception as error:
                if contestant.name == peers.OURS:
                    raise
                # Compilers have bugs of their own, and memory ends.
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                missing[f'{contestant.name}, {task} {size}, {precision}'] = reason
    for precision in plan.precisions:
        cell.add_limit(precision)
    return cell.measure()


def measure_alone(task, size, plan, peaks):
    """Run :func:`measure_cell` for all contestants, in a process of its own; return the rows, and what is missing."""
    environment.set_tf32(False)
    warnings.filterwarnings('ignore', module='torch')
    # Else every load of weights says so.
    MMLogger.get_instance('benchmark', log_level='ERROR')
    contestants, missing = peers.build(plan.arch, environment.device(), plan.compiled)
    return measure_cell(contestants, task, size, plan, peaks, missing, Line(sys.stderr).show), missing


def measure_all(plan, save=lambda results: None):
    """Measure all that a plan has; return the results, ready for JSON. ``save`` gets them as they grow."""
    environment.set_tf32(False)
    line, described = Line(sys.stderr), environment.describe()
    device = described['device']
    line.show('what the machine reaches')
    peaks = limits.measure_peaks(device, plan.precisions, plan.quick)
    started = startup.measure(plan.quick, line.show) if plan.startup else None
    missing = {}
    if not environment.has_bfloat16():
        missing['bfloat16'] = 'this processor has no instructions for it'
    results = dict(environment=described, arch=plan.arch, depths=ARCHS[plan.arch].depths,
                   channels=ARCHS[plan.arch].channels, quick=plan.quick, drop_path_rate=0., missing=missing,
                   peaks=peaks._asdict(), startup=started, together=plan.together, rows=[])
    for size in plan.sizes:
        for task in plan.tasks:
            cell = measure_alone, task, size, plan, peaks
            rows, absent = measure_alone(*cell[1:]) if plan.together else measure.alone(*cell)
            for name in absent.keys() - missing:
                line.end(f'without {name}: {absent[name]}')
            missing.update(absent)
            results['rows'] += rows
            results['bars'] = bars.judge(results)
            save(results)
    return results


def choose(plan, args):
    """Return the part of a plan that the command line names, and words for it, for the name of a file."""
    sizes = {str(size): size for size in plan.sizes}
    unknown = [size for size in args.sizes or () if size not in sizes]
    if unknown:
        raise UserError(f'--sizes: there is no {unknown[0]}, expected some of {", ".join(sizes)}')
    chosen = dict(sizes=args.sizes, tasks=args.tasks, precisions=args.precisions)
    parts = {key: tuple(value for value in (sizes if key == 'sizes' else getattr(plan, key)) if value in names)
             for key, names in chosen.items() if names}
    words = [word for part in parts.values() for word in part] + ['together'] * args.together
    if 'sizes' in parts:
        parts['sizes'] = tuple(map(sizes.get, parts['sizes']))
    # The start is judged in whole runs.
    return plan._replace(together=args.together, startup=plan.startup and not words, **parts), words


def main(argv=None, quick=QUICK):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='a small network on small images, in a minute or two')
    parser.add_argument('--sizes', nargs='+', metavar='HxW', help='sizes of images to measure (all)')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, help='tasks to measure (all)')
    parser.add_argument('--precisions', nargs='+', choices=PRECISIONS, help='precisions to measure (all)')
    parser.add_argument('--together', action='store_true', help='measure all in one process')
    parser.add_argument('--out', metavar='DIR', help='folder for the results (default: benchmarks/results, of --quick '
                        'work_dirs/benchmarks)')
    args = parser.parse_args(argv)
    plan, words = choose(quick if args.quick else full_plan(environment.device()), args)
    place = show.place(args.out, args.quick)
    path = place / '-'.join([environment.file_name(environment.describe()), 'backbone', *words])
    results = measure_all(plan, lambda results: show.write_json(results, path))
    print(show.backbone_tables(results))
    show.write(results, show.backbone_chart, path)


if __name__ == '__main__':
    sys.exit(run(main))
