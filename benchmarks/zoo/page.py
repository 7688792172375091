"""Write the page of what the survey found: a table of families, and every reason with the number of its configs."""
from collections import Counter, defaultdict

from benchmarks.zoo.log import versions
from convnext_mm.swap.errors import NO_IMAGE, NOT_A_MODEL, OWN
from convnext_mm.utils.files import whole_file

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
#: Kinds of refusals of models without an image backbone to exchange.
WITHOUT_BACKBONE = (NOT_A_MODEL, NO_IMAGE, OWN)
#: Status -> title of the section with its reasons; ``elsewhere`` stands for what is verified under the other family.
_SECTIONS = (
    ('refused', 'Refused'),
    ('kernel', 'Built, but without a CPU kernel for an operator'),
    ('package', 'Swapped, but the model needs a package that is not installed'),
    ('elsewhere', 'Verified under the other distributions, since the original model does not run under these'),
    ('upstream', 'Swapped, but the original model does not run here either, for the reason given'),
    ('unloadable', 'The original config does not load'),
    ('failed', 'Failed'), ('swap failed', 'Failed in the swap'))


_INTRODUCTION = (
    'This page covers every config that the installed distributions contain, except bases. '
    '`convnext_mm.swap_backbone` swaps each config. Each distinct model among the results is built with '
    "`arch='atto'` and without weights, trained for one step on two random images on the CPU, and run forward. The "
    'loss must be finite, every parameter of the backbone must get a gradient, and the optimizer must be built. A BERT '
    'of one layer with random weights replaces language models. GLIP and Grounding DINO configs for inference get the '
    'loss and the assigner of those for training. `make zoo` writes this page.')


def coverage(rows):
    """Return how many configs were verified, and of how many: those with an image backbone and CPU kernels."""
    with_backbone = [row for row in rows if row['status'] != 'kernel' and
                     not (row['status'] == 'refused' and row['kind'] in WITHOUT_BACKBONE)]
    return sum(row['status'] == 'verified' for row in with_backbone), len(with_backbone)


def format_page(rows):
    """Return the page, in Markdown.

    Args:
        rows (list[dict]): From :func:`benchmarks.zoo.survey.survey`.
    """
    lines = ['# A ConvNeXt in every config of mmdet and mmseg', '', _INTRODUCTION, '',
             f'{_format_versions(versions())}.', '']
    elsewhere = [row['under'] for row in rows if 'under' in row]
    if elsewhere:
        lines += ['Some models do not run under these versions, and the swap is not the cause. They are tried under '
                  f'the other family: {_format_versions(elsewhere[0])}. {len(elsewhere)} configs of those verified '
                  'below are verified there.', '']
    lines += [_format_outcome(rows), '', *_family_lines(rows)]
    for status, title in _SECTIONS:
        lines += _section_lines(title, [row for row in rows
                                        if ('elsewhere' if 'under' in row else row['status']) == status])
    return '\n'.join(lines) + '\n'


def _format_versions(numbers):
    return ', '.join(f'{name} {number}' for name, number in numbers.items())


def _format_outcome(rows):
    """Return the paragraph that sums the page up."""
    verified, total = coverage(rows)
    failed = sum(row['status'] in COLUMNS['failed'] for row in rows)
    text = (f'**{verified} of {total} configs that have an image backbone are swapped and verified '
            f'({100 * verified / max(total, 1):.1f} %), {failed} failed.** ')
    necks = sum(row.get('necks', False) and row['status'] != 'verified' for row in rows)
    if necks:
        text += (f'{necks} more {"config is" if necks == 1 else "configs are"} verified in part, the backbone and the '
                 'necks alone, because the whole model does not run in this environment, with its own backbone or '
                 f'with another ({100 * (verified + necks) / max(total, 1):.1f} % in all). ')
    return text + ('Configs without a backbone to exchange are not counted, and neither are those without a CPU kernel '
                   'for one of their operators.')


def _family_lines(rows):
    """Return the table of families: how many configs of each have which outcome."""
    families = defaultdict(list)
    for row in rows:
        families['/'.join(row['config'].split('/')[:2])].append(row)
    return [f'| family | {" | ".join(COLUMNS)} |', f'|---{"|--:" * len(COLUMNS)}|',
            *(_family_line(name, members) for name, members in sorted(families.items())), _family_line('**all**', rows)]


def _family_line(name, rows):
    counts = Counter(row['status'] for row in rows)
    cells = [len(rows) if statuses is None else sum(counts[s] for s in statuses) for statuses in COLUMNS.values()]
    return f'| {name} | {" | ".join(str(cell or "") for cell in cells)} |'


def _section_lines(title, rows):
    """Return a section with the distinct reasons of rows, the most frequent first, or nothing without rows."""
    found = defaultdict(list)
    for row in rows:
        found[row['reason']].append(row['config'])
    if not found:
        return []
    return ['', f'## {title}', '', '| configs | reason | for instance |', '|--:|---|---|',
            *(f'| {len(configs)} | {_escape(reason)} | `{configs[0]}` |'
              for reason, configs in sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))]


def _escape(text):
    return text.replace('|', '\\|').replace('<', '&lt;')


def write_page(rows, path):
    """Write the page, complete or not at all."""
    with whole_file(path) as file:
        file.write_text(format_page(rows), encoding='utf-8')
