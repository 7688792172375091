"""A training report: one self-contained HTML page about one run or several side by side (`tools/report.py`)."""
import base64
import io
import os
import sys
import time
from collections.abc import Mapping
from html import escape
from pathlib import Path
from statistics import median

from mmengine.config import Config
from PIL import Image

from convnext_mm.evaluation.cost import count_config
from convnext_mm.utils.errors import UserError
from convnext_mm.version import __version__
from convnext_mm.visualization.charts import Level, Series, format_number, line_chart, smooth
from convnext_mm.visualization.report.runs import read_run
from convnext_mm.visualization.report.worst_samples import predict_samples

#: Key of a figure in mmengine's log -> label, what makes it per cent, and its key in a row of ``paper.json``.
METRICS = {
    'coco/bbox_mAP': ('box AP', 100, 'box_ap'),
    'coco/segm_mAP': ('mask AP', 100, 'mask_ap'),
    'mIoU': ('mIoU', 1, 'miou_single_scale'),
}
#: Of the logger's own, beside losses and figures.
_TIMES = {'time', 'data_time', 'step'}
#: A mean is drawn from this many points on, over this part of them.
_SMOOTH_FROM, _SMOOTH_PART = 40, 20
#: Rows of a config's difference that are shown at once.
_DIFFERENCES = 25
#: Settings of a start rather than of a recipe.
_OWN_SETTINGS = {'work_dir', 'launcher', 'resume', 'load_from'}
_QUALITY = 85


def write_report(folders, configs, file):
    """Write the page about the trainings in some work dirs.

    Args:
        folders (Sequence[str | Path]): Work dirs, one or more.
        configs (Path): The folder `configs/`, whose family bases the runs' configs are compared with.
        file (str | Path): Replaced as a whole or not at all.

    Raises:
        UserError: A folder is none of a training, or the page cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    page = render(runs, configs)
    partial = Path(f'{file}.partial')
    try:
        partial.write_text(page, encoding='utf-8')
        os.replace(partial, file)
    except OSError as error:
        raise UserError(f'--out {str(file)!r} cannot be written: {error.strerror}; give a file in a folder that exists')
    finally:
        partial.unlink(missing_ok=True)


def render(runs, configs):
    """The page, as HTML; arguments as in :func:`write_report`."""
    names = _names(runs)
    sections = [
        ('Overview', '', [_scroll(_overview(runs, names))]),
        ('All runs', 'The same curve of every run.', _comparison(runs, names)),
        ('Losses', _about_losses(runs), _cards(names, map(_losses, runs))),
        ('Accuracy', 'On the validation images, in per cent; the published value is that of the paper for this config.',
         _cards(names, map(_metrics, runs))),
        ('Learning rates', 'Of each layer id; the stem is layer 0, the heads are the last.',
         _cards(names, map(_rates, runs))),
        ('Predictions', 'Predicted from the newest checkpoint, beside the ground truth, the lowest IoU first.',
         _cards(names, [_guarded(_samples, run) for run in runs])),
        ('Cost', "By the paper's convention: multiply-accumulates of convolutions and linear layers, 1000 box and 100 "
         'mask proposals.', _cards(names, [_guarded(_cost, run) for run in runs])),
        ('Config', "What differs from the base of the config's family, field by field.",
         _cards(names, [_guarded(_difference, run, configs) for run in runs])),
        ('Environment', 'As mmengine saw it when the newest part of the run started.',
         _cards(names, map(_environment, runs))),
    ]
    sections = [(title, about, parts) for title, about, parts in sections if parts]
    links = ''.join(f'<li><a href="#{_anchor(title)}">{title}</a></li>' for title, _, _ in sections)
    body = '\n'.join(f'<section id="{_anchor(title)}"><h2>{title}</h2>{f"<p>{about}</p>" if about else ""}'
                     f'{_grid(parts)}</section>' for title, about, parts in sections)
    css = Path(__file__).with_name('report.css').read_text(encoding='utf-8')
    made = time.strftime('%Y-%m-%d %H:%M')
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Training report: {escape(', '.join(names))}</title>
<link rel="icon" href="data:,">
<style>{css}</style></head>
<body><header><h1>Training report</h1><p>{escape(', '.join(names))} · {made}</p></header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>{body}</main>
<footer>convnext_mm {__version__}</footer></body></html>
"""


def _names(runs):
    """Names that tell the runs apart: their folders', with as many parents as that takes."""
    parts = [run.folder.resolve().parts for run in runs]
    names = ['/'.join(p[-1:]) for p in parts]
    for depth in range(2, max(map(len, parts)) + 1):
        if len(set(names)) == len(names):
            break
        names = ['/'.join(p[-depth:]) for p in parts]
    return names


def _anchor(title):
    return title.lower().replace(' ', '-')


def _grid(parts):
    return f'<div class="runs">{"".join(parts)}</div>' if len(parts) > 1 else ''.join(parts)


def _cards(names, contents):
    return [f'<div class="card"><h3>{escape(name)}</h3>{content}</div>' for name, content in zip(names, contents)]


def _nothing(text):
    return f'<p class="nothing">{escape(text)}</p>'


def _scroll(table):
    return f'<div class="card scroll" tabindex="0">{table}</div>'


def _guarded(section, run, *arguments):
    """A section that depends on more than the logs: what it lacks is said in its place, and the page is written."""
    try:
        return section(run, *arguments)
    except Exception as error:  # Data, checkpoints and models are the user's: whatever they raise is theirs to see.
        text = ' '.join(str(error).split())
        text = text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'
        print(f'{run.folder}: {text}', file=sys.stderr)
        return _nothing(f'Not available: {text}')


def _table(header, rows, kind=''):
    """A table; the cells are HTML, the first of a row its head, and a header that starts with ``>`` is of numbers."""
    classes = [' class="number"' if text.startswith('>') else '' for text in header]
    head = ''.join(f'<th scope="col"{c}>{text.removeprefix(">")}</th>' for text, c in zip(header, classes))
    body = ''.join(f'<tr><th scope="row">{row[0]}</th>'
                   + ''.join(f'<td{c}>{cell}</td>' for cell, c in zip(row[1:], classes[1:])) + '</tr>' for row in rows)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


# The overview.

def _overview(runs, names):
    facts = [dict(_facts(run)) for run in runs]
    rows = [(key, *(fact[key] for fact in facts)) for key in facts[0]]
    return _table(('', *map(escape, names)), [row for row in rows if any(row[1:])])


def _facts(run):
    """(name, HTML) of what is said about a run at the top of the page: the same names for every run, in one order."""
    done, total = run.progress
    unit = 'epochs' if run.by_epoch else 'iterations'
    kind, word = ('good', 'finished') if run.finished else ('warn', 'unfinished')
    losses, times, memory = ([line[key] for line in run.losses if key in line] for key in ('loss', 'time', 'memory'))
    yield 'config', f'<code>{escape(run.config_name)}</code>'
    yield 'state', f'<span class="{kind}">{word}</span>, {done:,} of {"?" if total is None else f"{total:,}"} {unit}'
    yield 'last written', time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(run.updated))
    yield 'resumed', 'after iteration ' + ', '.join(f'{i:,}' for i in run.resumed) if run.resumed else ''
    for key, (label, factor, row_key) in METRICS.items():
        yield label, _figure(run, key, factor, (run.published or {}).get(row_key))
    yield 'loss', f'{losses[0]:.3f} first, {losses[-1]:.3f} last' if losses else ''
    yield 'warning', ('' if run.broken_at is None else
                      f'<span class="bad">the loss is no finite number at iteration {run.broken_at:,}</span>')
    yield 'time', f'{median(times):.3g} s an iteration (median)' if times else ''
    yield 'GPU memory', f'{max(memory) / 1024:.1f} GiB' if any(memory) else ''
    yield 'checkpoint', f'<code>{escape(run.checkpoint.name)}</code>' if run.checkpoint else 'none yet'
    yield 'log', (f'<span class="warn">{run.unreadable} lines cannot be read and are left out</span>'
                  if run.unreadable else '')


def _figure(run, key, factor, published):
    """The last value of a figure, the best one where that is another, and the published one."""
    values = [(line[key] * factor, line['step']) for line in run.metrics if key in line]
    if not values:
        return f'published {published}' if published else ''
    best, last = max(values), values[-1]
    text = f'<b>{last[0]:.1f}</b> at {run.metric_unit} {last[1]:,}'
    text += f', best {best[0]:.1f} at {best[1]:,}' if best[0] > last[0] else ''
    return text + (f', published {published}' if published else '')


def _known_metrics(run):
    """(key, label, factor, published value or None) of the figures that the run's validations have."""
    for key, (label, factor, row_key) in METRICS.items():
        if any(key in line for line in run.metrics):
            yield key, label, factor, (run.published or {}).get(row_key)


# The curves.

def _comparison(runs, names):
    """Charts with a curve a run: the loss, and what at least two runs measured."""
    if len(runs) < 2:
        return []
    charts = [line_chart('loss', [Series(name, *_points(run.losses, 'loss'), colour=i)
                                  for i, (run, name) in enumerate(zip(runs, names))], 'iteration')]
    for key, (label, factor, _) in METRICS.items():
        measured = [(i, *_points(run.metrics, key, factor)) for i, run in enumerate(runs)
                    if any(key in line for line in run.metrics)]
        if len(measured) > 1:
            units = ' or '.join(dict.fromkeys(run.metric_unit for run in runs))
            charts.append(line_chart(f'{label}, per cent', [
                Series(names[i], x, y, colour=i, dots=True, value=f'{y[-1]:.1f}') for i, x, y in measured], units))
    return [f'<div class="card">{chart}</div>' for chart in charts]


def _points(lines, key, factor=1):
    found = [(line['step'], line[key] * factor) for line in lines if key in line]
    return [x for x, _ in found], [y for _, y in found]


def _about_losses(runs):
    windows = {(run.config.get('log_processor') or {}).get('window_size', 10) for run in runs}
    sizes = ' or '.join(str(w) for w in sorted(windows))
    return (f'As the logger wrote them: each value is already the mean of up to {sizes} iterations. {_SMOOTH_FROM} '
            f'values or more are drawn pale, with a centred mean over 1/{_SMOOTH_PART} of them on top.')


def _loss_series(lines, key, label, colour):
    x, y = _points(lines, key)
    if len(x) < _SMOOTH_FROM:
        return [Series(label, x, y, colour, value=f'{y[-1]:.3g}')]
    window = len(x) // _SMOOTH_PART
    return [Series(label, x, y, colour, faint=True),
            Series(label, x, smooth(y, window), colour, value=f'{y[-1]:.3g}')]


def _loss_groups(lines):
    """Part of the model -> keys of its losses: ``s0.loss_cls`` is of s0, ``loss_rpn_cls`` of rpn."""
    groups = {}
    for key in dict.fromkeys(key for line in lines for key in line):
        if 'loss' in key and key != 'loss':
            part, _, name = key.rpartition('.')
            words = name.split('_')
            part = part or (words[1] if len(words) > 2 else 'head')
            groups.setdefault(part, []).append(key)
    return groups


def _losses(run):
    if not run.losses:
        return _nothing('No losses yet: the logger has not written its first line.')
    marks = [(iteration, 'resumed') for iteration in run.resumed]
    total = line_chart('total', _loss_series(run.losses, 'loss', 'loss', 0), 'iteration', marks=marks)
    parts = [line_chart(part, [s for i, key in enumerate(keys) for s in _loss_series(run.losses, key, key, i)],
                        'iteration', marks=marks) for part, keys in _loss_groups(run.losses).items()]
    return f'{total}<div class="small">{"".join(parts)}</div>'


def _metrics(run):
    if not run.metrics:
        return _nothing('No figures yet: no validation has been done.')
    known = list(_known_metrics(run))
    series, levels = [], []
    for i, (key, label, factor, published) in enumerate(known):
        x, y = _points(run.metrics, key, factor)
        series.append(Series(label, x, y, i, dots=True, value=f'{y[-1]:.1f}'))
        if published:
            levels.append(Level(f'{label} published', published, i))
    row = run.published
    note = '' if row else 'There is no published value for this config on this data.'
    chart = line_chart(' and '.join(s.label for s in series) + ', per cent', series, run.metric_unit, note,
                       levels) if series else ''
    last = run.metrics[-1]
    rows = [(f'<code>{escape(key)}</code>', escape(f'{value:.4g}' if isinstance(value, float) else str(value)))
            for key, value in last.items() if key not in _TIMES]
    figures = _table(('figure', f'>{run.metric_unit} {last["step"]:,}'), rows)
    return f'{chart}<details{"" if chart else " open"}><summary>All figures</summary>{figures}</details>'


def _rates(run):
    keys = sorted({key for line in run.rates for key in line if key.startswith('lr/')})
    marks = [(iteration, 'resumed') for iteration in run.resumed]
    if keys:
        # From blue at the stem to orange at the heads.
        hues = [round(225 + 165 * i / max(len(keys) - 1, 1)) % 360 for i in range(len(keys))]
        series = []
        for key, hue in zip(keys, hues):
            x, y = _points(run.rates, key)
            series.append(Series(key.removeprefix('lr/').replace('_', ' '), x, y, hue=hue, value=format_number(y[-1])))
        return line_chart('learning rate', series, 'iteration', marks=marks, log=True)
    series = [Series(label, *_points(run.losses, key), colour=i) for i, (key, label) in enumerate(
        (('base_lr', 'base rate'), ('lr', 'first group'))) if any(key in line for line in run.losses)]
    if not series:
        return _nothing('No learning rates yet: the logger has not written its first line.')
    note = 'The log has no rates by layer: the config has no convnext_mm.LayerRateHook, or no layer decay.'
    return line_chart('learning rate', series, 'iteration', note, marks=marks, log=True)


# The rest.

def _samples(run):
    if run.checkpoint is None:
        return _nothing('No checkpoint yet: the first one brings predictions.')
    # A training that is going on keeps its GPU to itself.
    samples, checked, size = predict_samples(run.config, run.checkpoint, accelerator=run.finished)
    about = f'The {len(samples)} worst of {checked} images'
    about += f' out of {size:,}' if checked < size else ''
    return f'<p class="nothing">{about}, by <code>{escape(run.checkpoint.name)}</code>.</p>' + ''.join(
        map(_sample, samples))


def _sample(sample):
    panels = ''.join(f'<figure><img src="{_embed(picture)}" width="{picture.shape[1]}" height="{picture.shape[0]}" '
                     f'alt="{escape(f"{sample.name}, {title}")}"><small>{title}</small></figure>'
                     for title, picture in sample.panels.items())
    legend = ''.join(f'<li><i style="background:rgb{colour or (0, 0, 0, 0)}"></i>{escape(name)}</li>'
                     for name, colour in sample.legend)
    return (f'<figure class="sample"><figcaption>IoU {sample.iou:.2f} · {escape(sample.detail)}'
            f'<small>{escape(sample.name)}</small></figcaption><div class="panels">{panels}</div>'
            + (f'<ul class="legend">{legend}</ul>' if legend else '') + '</figure>')


def _embed(picture):
    """A picture as an address that holds it."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, 'JPEG', quality=_QUALITY)
    return f'data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}'


def _cost(run):
    counted, row = count_config(run.config), run.published or {}
    height, width = counted['shape']
    rows = [(f'<code>{name}</code>', f'{macs / 1e9:.2f}', '') for name, macs in counted['parts'].items()]
    rows += [('total', f'{counted["macs"] / 1e9:.2f}', row.get('flops_g', '')),
             ('parameters, M', f'{counted["parameters"] / 1e6:.2f}', row.get('params_m', ''))]
    return _table((f'G MACs at {height} x {width}', '>counted', '>published'), rows)


def _flatten(node, path=''):
    """(field, value) of everything in a config that is no dict, nor a list with dicts in it."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flatten(value, f'{path}.{key}' if path else str(key))
    elif isinstance(node, (list, tuple)) and any(isinstance(v, (Mapping, list, tuple)) and 'type' in str(v)
                                                 for v in node):
        for i, value in enumerate(node):
            yield from _flatten(value, f'{path}.{i}')
    else:
        yield path, list(node) if isinstance(node, tuple) else node


def config_difference(base, config):
    """Fields in which two configs differ.

    Settings of a start, such as ``work_dir``, are left out, and so is what testing shares with validation.

    Args:
        base, config (Mapping): Configs.

    Returns:
        list[tuple[str, object, object]]: Field, its value in ``base`` and in ``config``, None where there is none.
    """
    shared = [name for name in ('dataloader', 'evaluator')
              if all(c.get(f'val_{name}') == c.get(f'test_{name}') for c in (base, config))]
    skipped = _OWN_SETTINGS | {f'test_{name}' for name in shared}
    old, new = (dict(_flatten({key: value for key, value in c.items() if key not in skipped})) for c in (base, config))
    return [(path, old.get(path), new.get(path)) for path in dict.fromkeys([*old, *new])
            if old.get(path) != new.get(path)]


def _difference(run, configs):
    base = None if run.family is None else configs / run.family / '_base_.py'
    if base is None or not base.is_file():
        return _nothing(f'No base to compare with: {base or "the model is of none of the families"}.')
    differences = config_difference(Config.fromfile(base), run.config)
    rows = [(f'<code>{escape(path)}</code>', *(f'<code>{"" if v is None else escape(str(v))}</code>' for v in values))
            for path, *values in differences]
    table = _table(('field', f'configs/{run.family}/_base_.py', 'this run'), rows, 'diff')
    if len(rows) <= _DIFFERENCES:
        return table
    return f'<details><summary>{len(rows)} fields</summary>{table}</details>'


def _environment(run):
    if not run.environment:
        return _nothing('The log of the run is not there, or does not tell.')
    return _table(('', ''), [(escape(name), f'<code>{escape(value)}</code>')
                             for name, value in run.environment.items()])
