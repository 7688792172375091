"""Measured figures beside the published ones, with what was run: as text, as JSON and as Markdown."""
import json
import math
import os
from pathlib import Path
from typing import NamedTuple

from convnext_mm.published.paper import published, recipe
from convnext_mm.utils.configs import is_segmentor
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import whole_file
from convnext_mm.utils.text import format_table


class Figure(NamedTuple):
    """A figure of COCO's: mmdet's key for it, its name in a table, and its key in ``paper.json`` after box_."""

    key: str
    name: str
    published: str | None = None


#: In pycocotools' order.
COCO_FIGURES = (
    Figure('mAP', 'AP', 'ap'), Figure('mAP_50', 'AP50', 'ap50'), Figure('mAP_75', 'AP75', 'ap75'),
    Figure('mAP_s', 'AP small'), Figure('mAP_m', 'AP medium'), Figure('mAP_l', 'AP large'),
    Figure('AR@1', 'AR 1'), Figure('AR@10', 'AR 10'), Figure('AR@100', 'AR 100'),
    Figure('AR_s@100', 'AR small'), Figure('AR_m@100', 'AR medium'), Figure('AR_l@100', 'AR large'))
#: Images that the published figures are of: COCO val2017 and ADE20K's validation.
PUBLISHED_IMAGES = {'coco': 5000, 'ade20k': 2000}


class Reference(NamedTuple):
    """A published row to compare with (None: without one), and words for it."""

    row: dict | None
    text: str


def find_reference(name, config):
    """The published row for ``--reference``.

    Args:
        name (str): ``auto`` (the config's), ``none``, or a config such as ``cascade/convnext_t_3x``.
        config (str | Path): Path of the config.

    Raises:
        UserError: There is no such row; the names are listed.
    """
    if name == 'none':
        return Reference(None, 'not compared')
    row = recipe(config if name == 'auto' else name if name.endswith('.py') else f'{name}.py')
    if row is None and name == 'auto':
        return Reference(None, f'none: {config} is not one of the published configs')
    if row is None:
        names = ', '.join(row['config'].removesuffix('.py') for row in published()['coco'] + published()['ade20k'])
        raise UserError(f'--reference {name!r} is not published; expected auto, none, or one of {names}')
    return Reference(row, f'{row["config"].removesuffix(".py")}: {row["method"]}, {row["arch"]}, {row["pretrain"]}')


def check_reference(reference, cfg):
    """Make sure that a published row is of the config's task.

    Raises:
        UserError: A detector would be compared with a segmentor.
    """
    if reference.row is not None and is_segmentor(cfg.model) != ('crop_size' in reference.row):
        raise UserError(f'--reference {reference.row["config"]} is of another task than the config')


def describe_weights(weights):
    """The origin of weights in words."""
    if not weights:
        return 'not stored with the predictions'
    facts = [f'published as {weights["published_as"]}'] if 'published_as' in weights else []
    facts += [f'{name} {weights[key]}' for key, name in (('epoch', 'epoch'), ('iter', 'iteration'), ('time', 'saved'))
              if weights.get(key)]
    return f'{weights["source"]} ({", ".join([*facts, "sha256 " + weights["sha256"][:12]])})'


def make_report(run, images, figures, metrics, reference):
    """All that is known of an evaluation, ready for JSON.

    Args:
        run (dict): Of :func:`describe_run`.
        images (int): How many.
        figures (dict): Of the evaluators, by their keys.
        metrics (Sequence): The evaluators; this package's give ``per_class``.
        reference (Reference): To compare with.

    Returns:
        dict: ``config``, ``protocol``, ``images``, ``weights``, ``published`` (words for the row), ``figures``
        (``metric``, ``key``, and in percent ``measured``, ``published`` and ``difference``), ``classes``. What does
        not exist is None.
    """
    row, text = reference
    if row is not None:
        count = PUBLISHED_IMAGES['ade20k' if 'crop_size' in row else 'coco']
        text += f' (on {count} images, here {images}: the figures do not compare)' if count != images else ''
    multi_scale = run['protocol'] == 'multi-scale'
    classes = [line for metric in metrics for line in getattr(metric, 'per_class', ())]
    return dict(
        config=run['config'], protocol=run['protocol'], images=images, weights=run['weights'], published=text,
        figures=[_compare(key, value, row, multi_scale) for key, value in figures.items()],
        classes=[{key: _number(value) for key, value in line.items()} for line in classes])


def _compare(key, value, row, multi_scale):
    name, measured, published_key = _name_figure(key, value, multi_scale)
    measured, theirs = _number(measured), (row or {}).get(published_key)
    return dict(metric=name, key=key, measured=measured, published=theirs,
                difference=None if theirs is None or measured is None else measured - theirs)


def _name_figure(key, value, multi_scale):
    """A figure's name in a table, its value in percent where it is known to have one, and its published key."""
    for kind, word in (('bbox', 'box'), ('segm', 'mask')):
        for figure in COCO_FIGURES:
            if key == f'coco/{kind}_{figure.key}':
                # The paper tests detectors at a single scale.
                known = figure.published and not multi_scale
                return (f'{word} {figure.name}', None if value < 0 else 100 * value,
                        f'{word}_{figure.published}' if known else None)
    if key == 'mIoU':
        return key, value, 'miou_multi_scale_flip' if multi_scale else 'miou_single_scale'
    return key, value, None


def _number(value):
    """JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(value, sign=''):
    if value is None:
        return '-'
    return f'{value:{sign}.2f}' if isinstance(value, float) else str(value)


def _tables(report):
    """(header, rows) of the figures, and of the classes if there are any."""
    figures = [(f['metric'], _cell(f['measured']), _cell(f['published']), _cell(f['difference'], '+'))
               for f in report['figures']]
    yield ('metric', 'measured', 'published', 'difference'), figures
    if report['classes']:
        keys = list(report['classes'][0])
        yield keys, [[_cell(row.get(key)) for key in keys] for row in report['classes']]


def _facts(report):
    return {'config': report['config'], 'protocol': report['protocol'], 'images': report['images'],
            'weights': describe_weights(report['weights']), 'published': report['published']}


def format_report(report, with_classes=True):
    """A report as text for a terminal: classes first, so that it ends with the table of figures."""
    tables = [format_table(*table) for table in _tables(report)]
    facts = '\n'.join(f'{name + ":":11}{text}' for name, text in _facts(report).items())
    return '\n\n'.join([*(tables[1:] if with_classes else ()), facts, tables[0]])


def format_markdown(report):
    """A report as Markdown."""
    lines = [f'# {report["config"]}', '', *(f'- {name}: {text}' for name, text in _facts(report).items())]
    for header, rows in _tables(report):
        lines += ['', f'| {" | ".join(header)} |', f'|---|{"---:|" * (len(header) - 1)}',
                  *(f'| {" | ".join(row)} |' for row in rows)]
    return '\n'.join(lines) + '\n'


def write_report(report, work_dir):
    """Write a report as JSON and Markdown; return the name without ending.

    ``evaluation`` in the work dir, and ``evaluation_multi_scale``, so that neither replaces the other.
    """
    name = 'evaluation' if report['protocol'] == 'single-scale' else f'evaluation_{report["protocol"]}'
    path = Path(work_dir, name.replace('-', '_'))
    for ending, text in (('.json', json.dumps(report, indent=1) + '\n'), ('.md', format_markdown(report))):
        with whole_file(path.with_suffix(ending)) as temporary:
            temporary.write_text(text, encoding='utf-8')
    return path


def show_report(report, work_dir, with_classes):
    """Print a report and write it into the work dir."""
    path = write_report(report, work_dir)
    print(f'\n{format_report(report, with_classes)}\n\nwritten to {os.path.relpath(path)}.json and .md', flush=True)
