"""The page of what the survey of the zoos found: a table of families, and every reason with its configs counted."""
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.zoo.survey import versions
from convnext_mm.swap.sources import NO_IMAGE, OWN
from convnext_mm.swap.swap import NOT_A_MODEL

#: Column -> the statuses that it counts.
COLUMNS = {
    'configs': None,
    'swapped': ('verified', 'kernel', 'package', 'upstream', 'failed'),
    'verified': ('verified',),
    'no CPU kernel': ('kernel',),
    'not runnable here': ('package', 'upstream', 'unloadable'),
    'refused': ('refused',),
    'failed': ('failed', 'swap failed'),
}
#: Refusals of what has no image backbone to exchange.
WITHOUT_BACKBONE = (NOT_A_MODEL, NO_IMAGE, OWN)
_SECTIONS = (
    ('refused', 'Refused'),
    ('kernel', 'Built, but without a CPU kernel for an operator'),
    ('package', 'Swapped, but the model needs a package that is not installed'),
    ('elsewhere', 'Verified under the other distributions, since the original model does not run under these'),
    ('upstream', 'Swapped, but the original model does not run here either, for the reason given'),
    ('unloadable', 'The original config does not load'),
    ('failed', 'Failed'), ('swap failed', 'Failed in the swap'))


def coverage(rows):
    """How many configs with an image backbone were verified, and of how many; those without a CPU kernel apart."""
    with_backbone = [row for row in rows if row['status'] != 'kernel' and
                     not (row['status'] == 'refused' and row['kind'] in WITHOUT_BACKBONE)]
    return sum(row['status'] == 'verified' for row in with_backbone), len(with_backbone)


def format_page(rows):
    """Text of the page, in Markdown.

    Args:
        rows (list[dict]): From :func:`benchmarks.zoo.survey.survey`.
    """
    verified, total = coverage(rows)
    necks = sum(row.get('necks', False) and row['status'] != 'verified' for row in rows)
    failed = sum(row['status'] in COLUMNS['failed'] for row in rows)
    elsewhere = [row['under'] for row in rows if 'under' in row]
    besides = (f'Of {necks} others, whose models cannot run as a whole in this environment, swapped or not, the '
               'backbone and its necks are verified (with them '
               f'{100 * (verified + necks) / max(total, 1):.1f} %). ') if necks else ''
    lines = [
        '# A ConvNeXt in every config of mmdet and mmseg', '',
        'Every config that the installed distributions bring along (bases left out), swapped by '
        "`convnext_mm.swap_backbone`; every distinct model among the results built with `arch='atto'` and without "
        'weights, trained for one step on two drawn images on the CPU (loss finite, every parameter of the backbone '
        'with a gradient, optimizer built), and run forward. Language models are replaced by a BERT of one layer with '
        'random weights; GLIP and Grounding DINO configs that are for inference get the loss and the assigner of those '
        'that train. `make zoo` writes this page.', '',
        f'{_listed(versions())}.', '',
        *([f'Models that do not run under these, by no fault of the swap, are tried under the other family: '
           f'{_listed(elsewhere[0])}. {len(elsewhere)} configs of those verified below are verified there.', '']
          if elsewhere else []),
        f'**{verified} of {total} configs that have an image backbone are swapped and verified '
        f'({100 * verified / max(total, 1):.1f} %), {failed} failed.** {besides}Apart are configs without a backbone '
        'to exchange, and those without a CPU kernel for one of their operators.', '',
        f'| family | {" | ".join(COLUMNS)} |', f'|---{"|--:" * len(COLUMNS)}|']
    families = defaultdict(list)
    for row in rows:
        families['/'.join(row['config'].split('/')[:2])].append(row)
    for name, members in sorted(families.items()):
        lines.append(_line(name, members))
    lines.append(_line('**all**', rows))
    for status, title in _SECTIONS:
        found = defaultdict(list)
        for row in rows:
            if ('elsewhere' if 'under' in row else row['status']) == status:
                found[row['reason']].append(row['config'])
        if found:
            lines += ['', f'## {title}', '', '| configs | reason | for instance |', '|--:|---|---|']
            lines += [f'| {len(configs)} | {_cell(reason)} | `{configs[0]}` |'
                      for reason, configs in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))]
    return '\n'.join(lines) + '\n'


def _listed(numbers):
    return ', '.join(f'{name} {number}' for name, number in numbers.items())


def _line(name, rows):
    counts = Counter(row['status'] for row in rows)
    cells = [len(rows) if statuses is None else sum(counts[s] for s in statuses) for statuses in COLUMNS.values()]
    return f'| {name} | {" | ".join(str(cell or "") for cell in cells)} |'


def _cell(text):
    return text.replace('|', '\\|').replace('<', '&lt;')


def write_page(rows, path):
    """Write the page, complete or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_text(format_page(rows), encoding='utf-8')
    partial.replace(path)
