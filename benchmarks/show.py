"""Results as tables, JSON and a PNG chart."""
import json
import textwrap
from pathlib import Path

from environment import describe_in_words
from limits import OWN_SHAPES
from peers import MMPRETRAIN, OURS

from convnext_mm.utils.files import check_place, whole_file
from convnext_mm.utils.text import format_table

ROOT = Path(__file__).resolve().parents[1]
COLOURS = dict(float32='#4878a8', bfloat16='#e08a3c')
PALE = dict(float32='#b3c7dc', bfloat16='#f3d0b1')


def place(out, quick):
    """Return the folder for results, known to be writable.

    Raises:
        UserError: It cannot be written.
    """
    folder = Path(out or ROOT / ('work_dirs/benchmarks' if quick else 'benchmarks/results'))
    check_place('--out', folder, is_folder=True)
    return folder


def write_json(results, path):
    """Write ``path``.json complete or not at all; return its path."""
    target = path.with_name(f'{path.name}.json')
    with whole_file(target) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + '\n')
    return target


def write(results, draw, path):
    """Write ``path``.json and ``path``.png, each complete or not at all, and say so.

    Args:
        results (dict): Ready for JSON.
        draw (Callable): Takes the results; returns a matplotlib figure.
        path (Path): Without a suffix.
    """
    print(write_json(results, path))
    target = path.with_name(f'{path.name}.png')
    with whole_file(target) as temporary:
        draw(results).savefig(temporary, format='png', dpi=110)
    print(target)


def _milliseconds(seconds):
    return f'{1000 * seconds:.{0 if seconds >= 1 else 1 if seconds >= .01 else 3}f}'


def _share(value):
    return '' if value is None else f'{100 * value:.0f} %'


def _times(value):
    return '' if value is None else f'{value:.2f}'


def _mega(value):
    return '' if value is None else f'{value / 1e6:.1f}'


def grouped(rows, *keys):
    """Return ``{values of some keys: rows}``, in the order of the rows."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _cell_table(task, size, rows):
    """Return the table of one size in one task."""
    medians = {(row['name'], row['precision']): row['median'] for row in rows}

    def cells(row):
        median, precision = row['median'], row['precision']
        beside, own = (medians.get((name, precision)) for name in (MMPRETRAIN, OWN_SHAPES))
        return (row['name'], precision, _milliseconds(median),
                f'{_milliseconds(row["low"])} - {_milliseconds(row["high"])}', f'{row["batch"] / median:.3g}',
                _times(beside and beside / median), _share(row['limit_seconds'] / median),
                _share(own / median if own and row['equal'] else None), _mega(row['kept']), _mega(row['peak_memory']))
    header = ('', '', 'ms', 'quartiles', 'images/s', f'x {MMPRETRAIN}', 'of peaks', 'of own shapes', 'MB kept',
              'MB peak')
    table = format_table(header, map(cells, rows), left=2)
    return (f'{task}, {size}, batch {rows[0]["batch"]}, {len(rows[0]["samples"])} rounds\n{table}'
            + ''.join(map(_libraries_in_words, rows)))


def _libraries_in_words(row):
    """Return a line that names the fastest library of each product of a limit; nothing for other rows."""
    by_library = {}
    for product, (library, _) in row.get('libraries', {}).items():
        by_library.setdefault(library, []).append(product)
    return ''.join(f'\nfastest in {row["precision"]}, {library}: {", ".join(names)}'
                   for library, names in by_library.items())


def bars_table(bars):
    """Return the table of bars: what was measured, held or not."""
    def cells(bar):
        unit = f' {bar["unit"]}'.rstrip()
        measured = 'not measured' if bar['measured'] is None else f'{bar["measured"]:.3g}{unit}'
        return (bar['name'], f'{bar["sign"]} {bar["bar"]:g}{unit}', measured,
                {True: 'held', False: 'MISSED', None: '-'}[bar['held']])
    return format_table(('bar', '', 'measured', ''), map(cells, bars))


def _peaks_in_words(peaks):
    by = {precision: f' ({library})' for precision, library in peaks.get('libraries', {}).items()}
    products = ', '.join(f'{flops / 1e9:.0f} GFLOP/s in {precision}{by.get(precision, "")}'
                         for precision, flops in peaks['flops'].items())
    return f'peaks of this run: matrix product {products}; copy {peaks["copy"] / 1e9:.1f} GB/s read and written'


def _startup_in_words(start):
    load = start['load']
    return (f'import {start["import_seconds"]:.3f} s, ConvNeXt itself {start["class_seconds"]:.3f} s; '
            f"ConvNeXt('tiny') {start['build_seconds']:.3f} s; loading {load['arch']}, "
            f'{load["model"] / 1e6:.0f} MB, in {load["seconds"]:.2f} s: {load["growth"] / 1e6:.0f} MB of its own, '
            f'{load["growth_with_file"] / 1e6:.0f} MB with pages of the file')


def backbone_tables(results):
    """Return all that ``backbone.py`` prints in the end."""
    parts = [describe_in_words(results['environment']), _peaks_in_words(results['peaks'])]
    parts += [f'without {package}: {why}' for package, why in results['missing'].items()]
    parts += [_cell_table(*key, rows) for key, rows in grouped(results['rows'], 'task', 'size').items()]
    if results['startup']:
        parts.append(_startup_in_words(results['startup']))
    parts.append(bars_table(results['bars']))
    if results['quick']:
        parts.append('--quick: a look at what is measured; the figures say nothing about the bars')
    return '\n\n'.join(parts)


def _plain(value):
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def _bars(axes, rows, value, spread=False):
    """Draw horizontal bars, one for each name and precision; ours in full colours."""
    names = list(dict.fromkeys(row['name'] for row in rows))
    precisions = list(dict.fromkeys(row['precision'] for row in rows))
    height = .8 / len(precisions)
    for row in rows:
        y = names.index(row['name']) + (precisions.index(row['precision']) - (len(precisions) - 1) / 2) * height
        colour = (COLOURS if row['name'].startswith(OURS) else PALE)[row['precision']]
        error = [[value(row) - 1e3 * row['low']], [1e3 * row['high'] - value(row)]] if spread else None
        axes.barh(y, value(row), height * .92, color=colour, xerr=error, error_kw=dict(lw=.8, ecolor='#444'))
        end = max(value(row), 1e3 * row['high'] if spread else 0)
        axes.text(end, y, f' {_plain(value(row))}', va='center', fontsize=6.5)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=.14)
    axes.tick_params(axis='x', labelsize=7)
    axes.spines[['top', 'right']].set_visible(False)


def _legend(figure, rows):
    from matplotlib.patches import Patch
    precisions = dict.fromkeys(row['precision'] for row in rows)
    figure.legend(handles=[Patch(color=COLOURS[p], label=p) for p in precisions], loc='outside lower center',
                  ncols=len(precisions), fontsize=8, frameon=False)


def chart(title, environment, panels, rows, columns):
    """Return a figure of panels, ``(title, rows, value, spread)`` each."""
    # Without pyplot, which would want a display or change the process's settings.
    from matplotlib.figure import Figure
    lines = -(-len(panels) // columns)
    tallest = max(len({row['name'] for row in panel[1]}) for panel in panels)
    figure = Figure(figsize=(4.6 * columns, lines * (.8 + .3 * tallest) + .9), layout='constrained')
    machine = textwrap.fill(describe_in_words(environment), 60 * columns)
    figure.suptitle(f'{title}\n{machine}', fontsize=9)
    for axes, (name, some, value, spread) in zip(figure.subplots(lines, columns, squeeze=False).flat, panels):
        _bars(axes, some, value, spread)
        axes.set_title(name, fontsize=8)
    _legend(figure, rows)
    return figure


def backbone_chart(results):
    """Return a figure with a line of panels for each task and one for the bytes kept, a column for each size."""
    rows = results['rows']
    panels = [(f'{task}, {size}, batch {some[0]["batch"]}: ms', some, lambda row: 1e3 * row['median'], True)
              for task in ('inference', 'training')
              for (_, size), some in grouped([row for row in rows if row['task'] == task], 'task', 'size').items()]
    kept = grouped([row for row in rows if row['kept'] is not None], 'size')
    panels += [(f'kept for backward, {size}, batch {some[0]["batch"]}: MB', some, lambda row: row['kept'] / 1e6, False)
               for (size,), some in kept.items()]
    return chart(f'ConvNeXt {results["arch"]}: median with quartiles', results['environment'], panels, rows,
                 len(grouped(rows, 'size')))


def _method_table(method, rows):
    """Return a method's table: a line for each backbone, ``rows`` of both tasks."""
    lines = []
    for (name,), (inference, training) in grouped(rows, 'name').items():
        shares = [_share(row['limit_seconds'] / row['median']) for row in (inference, training)]
        lines.append((name, f'{inference["batch"] / inference["median"]:.3g}', shares[0], f'{training["median"]:.3g}',
                      f'{training["low"]:.3g} - {training["high"]:.3g}', shares[1],
                      f'{training["peak_memory"] / 2 ** 20:.0f}'))
    header = ('', 'images/s', 'of peaks', 's/iteration', 'quartiles', 'of peaks', 'MiB peak')
    return (f'{method}, {rows[0]["size"]}, batch {rows[0]["batch"]}, {rows[0]["precision"]}\n'
            f'{format_table(header, lines)}')


def detector_tables(results):
    """Return all that ``detector.py`` prints in the end."""
    parts = [describe_in_words(results['environment']), _peaks_in_words(results['peaks'])]
    parts += [f'without {package}: {why}' for package, why in results['missing'].items()]
    parts += [_method_table(method, rows) for (method,), rows in grouped(results['rows'], 'method').items()]
    return '\n\n'.join(parts)


def detector_chart(results):
    """Return a figure with a line of panels for each of inference, training and memory, a column for each method."""
    rows, panels = results['rows'], []
    for task, title, value in (('inference', 'inference, ms', lambda row: 1e3 * row['median']),
                               ('training', 'training iteration, ms', lambda row: 1e3 * row['median']),
                               ('training', 'peak memory, MiB', lambda row: row['peak_memory'] / 2 ** 20)):
        some = [row for row in rows if row['task'] == task]
        panels += [(f'{method}: {title}', group, value, 'ms' in title)
                   for (method,), group in grouped(some, 'method').items()]
    return chart('Whole models: median with quartiles', results['environment'], panels, rows, len(panels) // 3)
