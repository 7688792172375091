"""The bars that the backbone is held to, and a judge that reads them off the results."""
import math
import operator
import statistics

from limits import OWN_SHAPES
from peers import MMPRETRAIN, OURS, OURS_COMPILED, OURS_CP, OURS_PACKED, TIMM_COMPILED

_COMPARE = {'>=': operator.ge, '<=': operator.le, '>': operator.gt, '<': operator.lt}
LARGE = ('512x512', '800x1280')
#: Ours, of which the fastest counts: the tools predict with packed weights.
ENTRANTS = [OURS, OURS_PACKED]
#: Float32 operations a second and thread that vectors of 256 bits do not reach: 32 a cycle, at 4 GHz.
FULL_WIDTH = 130e9


class Results:
    """Rows of results, for looking up."""

    def __init__(self, rows):
        self.rows = {(row['task'], row['size'], row['precision'], row['name']): row for row in rows}
        self.cells = list(dict.fromkeys((row['task'], row['size'], row['precision']) for row in rows))

    def get(self, task, size, precision, names, field='median'):
        """Return the least of a field over some names; None where there is none."""
        rows = [self.rows.get((task, size, precision, name)) for name in names]
        return min((row[field] for row in rows if row and row.get(field) is not None), default=None)

    def share(self, task, size, precision, ours, theirs, field='median', their_precision=None):
        """Return our value as a share of theirs, the least of each; None where one is missing."""
        mine = self.get(task, size, precision, ours, field)
        other = self.get(task, size, their_precision or precision, theirs, field)
        return mine / other if mine is not None and other else None

    def speed(self, *cell, **kwargs):
        """Return how many times as fast ours is."""
        share = self.share(*cell, **kwargs)
        return share and 1 / share

    def equal_peers(self, *cell):
        """Return the names of other packages' contestants of equal architecture, except compiled ones."""
        return [row['name'] for key, row in self.rows.items() if key[:3] == cell and row['equal']
                and not row['name'].startswith(OURS) and row['name'] != TIMM_COMPILED]

    def over(self, task, value):
        """Return ``value(task, size, precision)`` of all cells of a task that have one."""
        values = [value(*cell) for cell in self.cells if cell[0] == task]
        return [v for v in values if v is not None]


def _row(name, sign, bar, measured, unit='x'):
    """Return a bar beside what was measured; it is neither held nor missed where ``measured`` is None."""
    return dict(name=name, sign=sign, bar=bar, unit=unit, measured=measured,
                held=None if measured is None else bool(_COMPARE[sign](measured, bar)))


def _worst(values, pick):
    return pick(values) if values else None


def _on_cpu(results):
    for task, bar, half_bar in (('inference', 1.25, 2.2), ('training', 1.3, 2.0)):
        for size in LARGE:
            yield _row(f'{task} {size}, float32: speed over mmpretrain', '>=', bar,
                       results.speed(task, size, 'float32', ENTRANTS, [MMPRETRAIN]))
        for size in LARGE:
            yield _row(f'{task} {size}, bfloat16: speed over mmpretrain in float32', '>=', half_bar,
                       results.speed(task, size, 'bfloat16', ENTRANTS, [MMPRETRAIN], their_precision='float32'))

    def beside_the_fastest(*cell):
        return results.speed(*cell, ENTRANTS, results.equal_peers(*cell))
    inference, training = (results.over(task, beside_the_fastest) for task in ('inference', 'training'))
    yield _row(f'inference, worst of {len(inference)} cells: speed over the fastest equal peer', '>=', .97,
               _worst(inference, min))
    yield _row(f'inference, share of {len(inference)} cells faster than every equal peer', '>', .5,
               statistics.mean(value > 1 for value in inference) if inference else None, '')
    yield _row(f'training, worst of {len(training)} cells: speed over the fastest equal peer', '>=', 1.10,
               _worst(training, min))
    yield _row('inference 512x512, float32: share of the limit at its own shapes', '>=', .85,
               results.share('inference', '512x512', 'float32', [OWN_SHAPES], ENTRANTS), '')


def is_full_width(results):
    """Return whether the processor computes AVX-512's vectors at once, not by halves, by the peak that it reached."""
    flops, environment = results.get('peaks', {}).get('flops', {}).get('float32', 0), results['environment']
    return environment.get('cpu_capability') == 'AVX512' and flops / environment['threads'] >= FULL_WIDTH


def _on_full_width(results):
    def speed(*cell):
        return results.speed(*cell, ENTRANTS, results.equal_peers(*cell))

    def worst(task, precision, value):
        return _worst(results.over(task, lambda *cell: value(*cell) if cell[2] == precision else None), min)
    for precision, bars_of_sizes in (('float32', (1.1, 1.15, 1.2)), ('bfloat16', (1.1, 1.2, 1.2))):
        for size, bar in zip(('224x224', *LARGE), bars_of_sizes):
            yield _row(f'full width: training {size}, {precision}: speed over the fastest equal peer', '>=', bar,
                       speed('training', size, precision))
    for precision, bar in (('float32', 1.4), ('bfloat16', 1.2)):
        yield _row(f'full width: inference, {precision}, worst size: speed over the fastest equal peer', '>=', bar,
                   worst('inference', precision, speed))
    yield _row('full width: inference, bfloat16, worst size: share of the limit at its own shapes', '>=', .75,
               worst('inference', 'bfloat16', lambda *cell: results.share(*cell, [OWN_SHAPES], ENTRANTS)), '')


def _together(results):
    values = [value for task in ('inference', 'training') for value in results.over(
        task, lambda *cell: results.speed(*cell, ENTRANTS, results.equal_peers(*cell)))]
    yield _row(f'one process, worst of {len(values)} cells: speed over the fastest equal peer', '>=', 1.,
               _worst(values, min))


def _on_gpu(results):
    def entrant(*cell):
        """Return ours, compiled where that is faster."""
        return [min((OURS_COMPILED, OURS), key=lambda name: results.get(*cell, [name]) or math.inf)]
    for task, theirs, what, bar in (
            ('inference', MMPRETRAIN, 'mmpretrain', 2.), ('inference', TIMM_COMPILED, 'timm under torch.compile', 1.15),
            ('training', MMPRETRAIN, 'mmpretrain', 1.6)):
        values = results.over(task, lambda *cell, theirs=theirs: results.speed(*cell, entrant(*cell), [theirs])
                              if cell[2] == 'bfloat16' else None)
        yield _row(f'{task}, bfloat16, worst of {len(values)} sizes: speed over {what}', '>=', bar, _worst(values, min))
    memory = results.over('training', lambda *cell: results.share(*cell, entrant(*cell), [MMPRETRAIN],
                                                                   field='peak_memory'))
    yield _row(f"training, worst of {len(memory)} cells: peak memory, of mmpretrain's", '<=', .6, _worst(memory, max))


def judge(results):
    """Return every bar of the machine's kind beside what was measured.

    Args:
        results (dict): Of ``backbone.measure_all``: ``rows``, ``startup`` or None, and ``environment`` with ``device``.

    Returns:
        list[dict]: ``name``, ``sign``, ``bar``, ``unit``, ``measured`` (None where something is missing), ``held``.
    """
    found = Results(results['rows'])
    if results.get('together'):
        return list(_together(found))
    judged = list((_on_gpu if results['environment']['device'] == 'cuda' else _on_cpu)(found))
    if is_full_width(results):
        judged += _on_full_width(found)
    for names, what, bar in (([OURS], '', .55), ([OURS_CP], ', with_cp', .25)):
        values = found.over('training', lambda *cell, names=names: found.share(*cell, names, [MMPRETRAIN],
                                                                               field='kept'))
        judged.append(_row(f"training, worst of {len(values)} cells: bytes kept for backward{what}, of mmpretrain's",
                           '<=', bar, _worst(values, max)))
    start = results['startup']
    if start is None:
        return judged
    judged.append(_row('import convnext_mm, beyond torch and mmengine', '<', .15, start['import_seconds'], 's'))
    judged.append(_row("ConvNeXt('tiny')", '<', .5, start['build_seconds'], 's'))
    load = start['load']
    judged.append(_row(f'loading {load["model"] / 4e6:.0f} M parameters: growth of memory, of the size of the model',
                       '<', .5, load['growth'] / load['model']))
    return judged
