"""Set measured figures beside the published ones: the scores of a test, as text, as JSON and as Markdown."""
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from convnext_mm.evaluation.run_facts import describe_weights
from convnext_mm.evaluation.tested import Tested
from convnext_mm.published.imagenet import imagenet_recipe, published_imagenet
from convnext_mm.published.paper import published, recipe
from convnext_mm.utils.configs import is_classifier, is_segmentor
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import whole_file
from convnext_mm.utils.text import format_table


class CocoFigure(NamedTuple):
    """A figure of COCO's.

    Attributes:
        key (str): mmdet's key for it.
        name (str): Its name in a table.
        published (str | None): Its key in ``paper.json`` without ``box_`` or ``mask_``; None if it is not published.
    """

    key: str
    name: str
    published: str | None = None


#: In pycocotools' order.
COCO_FIGURES = (
    CocoFigure('mAP', 'AP', 'ap'), CocoFigure('mAP_50', 'AP50', 'ap50'), CocoFigure('mAP_75', 'AP75', 'ap75'),
    CocoFigure('mAP_s', 'AP small'), CocoFigure('mAP_m', 'AP medium'), CocoFigure('mAP_l', 'AP large'),
    CocoFigure('AR@1', 'AR 1'), CocoFigure('AR@10', 'AR 10'), CocoFigure('AR@100', 'AR 100'),
    CocoFigure('AR_s@100', 'AR small'), CocoFigure('AR_m@100', 'AR medium'), CocoFigure('AR_l@100', 'AR large'))
#: How many images the published figures are of: COCO val2017, and the validation of ADE20K and ImageNet-1K.
PUBLISHED_IMAGES = {'coco': 5000, 'ade20k': 2000, 'imagenet': 50_000}


class Reference(NamedTuple):
    """A published row to compare with, or None, and words for it."""

    row: dict | None
    text: str


def find_reference(name: str, config: str | Path) -> Reference:
    """Return the published row for ``--reference``.

    Args:
        name (str): ``auto`` (the config's), ``none``, or a config such as ``cascade/convnext_t_3x``.
        config (str | Path): Path of the config.

    Raises:
        UserError: There is no such row; the names are listed.
    """
    if name == 'none':
        return Reference(None, 'not compared')
    path = config if name == 'auto' else name if name.endswith('.py') else f'{name}.py'
    row = recipe(path) or _classifier_row(path)
    if row is None and name == 'auto':
        return Reference(None, f'none: {config} is not one of the published configs')
    if row is None:
        rows = published()['coco'] + published()['ade20k'] + published_imagenet()['configs']
        names = ', '.join(row['config'].removesuffix('.py') for row in rows)
        raise UserError(f'--reference {name!r} is not published; expected auto, none, or one of {names}')
    words = f'{row["arch"]} at {row["resolution"]}' if _task(row) == 'imagenet' else (
        f'{row["method"]}, {row["arch"]}, {row["pretrain"]}')
    return Reference(row, f'{row["config"].removesuffix(".py")}: {words}')


def _classifier_row(path):
    """Return the row of a classifier, with the top-5 accuracy where that is published; None where none is."""
    row, reference = imagenet_recipe(path), published_imagenet()['reference']
    if row is None:
        return None
    base = row['recipe'], row['arch'], row['resolution']
    # The weights that the official repository gives figures of for checking.
    known = base == ('imagenet_22k_1k', 'base', 224) and reference['weights'] == 'convnext_base_in22k_in1k'
    return row | (dict(top5=reference['top5']) if known else {})


def _task(row):
    """Return the key of ``PUBLISHED_IMAGES`` that a row belongs to."""
    return 'imagenet' if 'recipe' in row else 'ade20k' if 'crop_size' in row else 'coco'


def check_reference(reference: Reference, cfg: Any) -> None:
    """Make sure that a published row is of the config's task.

    Raises:
        UserError: A detector would be compared with a segmentor, for example.
    """
    task = 'ade20k' if is_segmentor(cfg.model) else 'imagenet' if is_classifier(cfg.model) else 'coco'
    if reference.row is not None and _task(reference.row) != task:
        raise UserError(f'--reference {reference.row["config"]} is of another task than the config')


def make_scores(run: dict, tested: Sequence[Tested], figures: dict, metrics: Sequence, reference: Reference) -> dict:
    """Return all that is known of an evaluation, ready for JSON.

    Args:
        run (dict): What :func:`describe_run` returned.
        tested (Sequence[Tested]): How many images of which files.
        figures (dict): What the evaluators measured, by their keys.
        metrics (Sequence): The evaluators; this package's have ``per_class``.
        reference (Reference): The published row to compare with.

    Returns:
        dict: ``config``, ``protocol``, ``precision``, ``images`` (their number), ``tested`` (words), ``weights``,
        ``published`` (words for the row), ``figures`` (``metric``, ``key``, and in percent ``measured``, ``published``
        and ``difference``), ``classes``. What does not exist is None.
    """
    row, text = reference
    images = sum(part.images for part in tested)
    if row is not None:
        count = PUBLISHED_IMAGES[_task(row)]
        text += f' (on {count} images, here {images}: the figures do not compare)' if count != images else ''
    multi_scale = run['protocol'] == 'multi-scale'
    classes = [line for metric in metrics for line in getattr(metric, 'per_class', ())]
    return dict(
        config=run['config'], protocol=run['protocol'], precision=run.get('precision', 'float32'), images=images,
        tested=', '.join(map(str, tested)), weights=run['weights'], published=text,
        figures=[_compare(key, value, row, multi_scale) for key, value in figures.items()],
        classes=[{key: _number(value) for key, value in line.items()} for line in classes])


def _compare(key, value, row, multi_scale):
    name, measured, published_key = name_figure(key, value, multi_scale)
    measured, theirs = _number(measured), (row or {}).get(published_key)
    return dict(metric=name, key=key, measured=measured, published=theirs,
                difference=None if theirs is None or measured is None else measured - theirs)


def name_figure(key: str, value: Any, multi_scale: bool) -> tuple[str, Any, str | None]:
    """Return a figure's name in a table, its value (COCO's in percent), and its published key or None.

    Numbers of NumPy and torch, which metrics of mm's return, become Python's own, as JSON takes them.
    """
    value = value.tolist() if hasattr(value, 'tolist') else value
    # mmdet puts the name of a part of a ConcatDataset before its figures.
    part, _, rest = key.rpartition('coco/')
    for kind, word in (('bbox', 'box'), ('segm', 'mask')):
        for figure in COCO_FIGURES:
            if rest == f'{kind}_{figure.key}' and part[-1:] in ('', '/'):
                # The paper tests detectors at a single scale.
                known = figure.published and not multi_scale and not part
                return (f'{part}{word} {figure.name}', None if value < 0 else 100 * value,
                        f'{word}_{figure.published}' if known else None)
    for name in ('top1', 'top5'):
        if key == f'accuracy/{name}':
            return f'top-{name[-1]}', value, name
    if key == 'mIoU':
        return key, value, 'miou_multi_scale_flip' if multi_scale else 'miou_single_scale'
    return key, value, None


def _number(value):
    """Return a value for JSON, which has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(value, sign=''):
    if value is None:
        return '-'
    return f'{value:{sign}.2f}' if isinstance(value, float) else str(value)


def _tables(scores):
    """Yield (header, rows) of the figures, and of the classes if there are any."""
    figures = [(f['metric'], _cell(f['measured']), _cell(f['published']), _cell(f['difference'], '+'))
               for f in scores['figures']]
    yield ('metric', 'measured', 'published', 'difference'), figures
    if scores['classes']:
        keys = list(scores['classes'][0])
        yield keys, [[_cell(row.get(key)) for key in keys] for row in scores['classes']]


def _is_float32(scores):
    return scores.get('precision', 'float32') == 'float32'


def _facts(scores):
    half = '' if _is_float32(scores) else f', network in {scores["precision"]}'
    return {'config': scores['config'], 'protocol': scores['protocol'] + half, 'images': scores['tested'],
            'weights': describe_weights(scores['weights']), 'published': scores['published']}


def format_scores(scores: dict, with_classes: bool = True) -> str:
    """Return scores as text for a terminal: classes first, so that it ends with the table of figures."""
    tables = [format_table(*table) for table in _tables(scores)]
    facts = '\n'.join(f'{name + ":":11}{text}' for name, text in _facts(scores).items())
    return '\n\n'.join([*(tables[1:] if with_classes else ()), facts, tables[0]])


def format_markdown(scores: dict) -> str:
    """Return scores as Markdown."""
    lines = [f'# {scores["config"]}', '', *(f'- {name}: {text}' for name, text in _facts(scores).items())]
    for header, rows in _tables(scores):
        lines += ['', f'| {" | ".join(header)} |', f'|---|{"---:|" * (len(header) - 1)}',
                  *(f'| {" | ".join(row)} |' for row in rows)]
    return '\n'.join(lines) + '\n'


def write_scores(scores: dict, work_dir: str | Path) -> Path:
    """Write scores into the work dir as JSON and Markdown, and return the path without ending.

    Its name is ``evaluation``, with ``_multi_scale`` and ``_bfloat16`` where they hold: none replaces another.
    """
    name = 'evaluation' if scores['protocol'] == 'single-scale' else f'evaluation_{scores["protocol"]}'
    name += '' if _is_float32(scores) else f'_{scores["precision"]}'
    path = Path(work_dir, name.replace('-', '_'))
    for ending, text in (('.json', json.dumps(scores, indent=1) + '\n'), ('.md', format_markdown(scores))):
        with whole_file(path.with_suffix(ending)) as temporary:
            temporary.write_text(text, encoding='utf-8')
    return path


def show_scores(scores: dict, work_dir: str | Path, with_classes: bool) -> None:
    """Print scores and write them into the work dir."""
    path = write_scores(scores, work_dir)
    print(f'\n{format_scores(scores, with_classes)}\n\nwritten to {os.path.relpath(path)}.json and .md', flush=True)
