"""Write ``model-index.yml`` and ``docs/model_zoo.md`` from the published numbers: ``make model-zoo``.

Every figure and address stands once, in ``convnext_mm/published/``. A test writes both files anew and compares.
"""
import ast
import posixpath
import re
from pathlib import Path

import yaml

from convnext_mm.published.archs import LETTERS
from convnext_mm.published.imagenet import imagenet_recipe, published_imagenet
from convnext_mm.published.paper import published
from convnext_mm.published.weights import weights
from convnext_mm.utils.files import whole_file

ROOT = Path(__file__).resolve().parents[1]
PAPER = dict(Title='A ConvNet for the 2020s', URL='https://arxiv.org/abs/2201.03545')
NOTE = 'Written by `make model-zoo` from convnext_mm/published/.'
DATA = dict(coco='COCO', ade20k='ADE20K')

INTRODUCTION = """# Model zoo

This page lists the configs that come with the package, with the figures that [the paper]({URL})
and its official repository publish for them. These models have not been trained again with this project. A test ends
with your own figures beside the published ones ([test and predict](evaluate.md)).

Every tool takes a config of this page by its name, such as `convnext_mm::cascade/convnext_t_3x.py`, or by its path in a
clone, `configs/cascade/convnext_t_3x.py`. It takes a checkpoint of this page by its name, such as
`cascade_mask_rcnn_convnext_tiny_1k_3x`, and downloads it. `model-index.yml` has the same facts in OpenMMLab's format.
"""
COCO = """
## {method} on COCO 2017

Trained for {max_epochs} epochs with {batch_size} images a step, tested at a single scale. FLOPs are counted at
{shapes}.
"""
ADE20K = """
## {method} on ADE20K

Trained for {max_iters:,} iterations with {batch_size} images a step. FLOPs are counted at {shapes}, for the
smaller and the larger crops. "Multi-scale" is testing at several scales, with flipping (`--tta`).
"""
CLASSIFIERS = """
## Classifiers on ImageNet

They start from random weights, or from the weights of the second column; [the page on ImageNet](imagenet.md) has the
recipes. "Top-1" is the published accuracy on ImageNet-1K, in percent. Of trainings from random weights, and of XL, it
is that of the averaged weights.
"""
OTHERS = """
## Other configs

They have no published figures.
"""
WEIGHTS = """
## Weights of the backbone

Give one of these names as `init_cfg=dict(type='Pretrained', checkpoint='convnext_tiny_in1k')`. "Top-1" is the published
accuracy on ImageNet-1K, in percent, if one is published for this very file. Mind the licences: CC BY-NC 4.0 forbids
commercial use.
"""


def rows() -> list:
    """Return ``(task, row)`` of every published config, in the order of the paper."""
    return [(task, row) for task in DATA for row in published()[task]]


def other_configs() -> list:
    """Return the paths below ``configs/``, sorted, of configs to run that have no published row."""
    known = {row['config'] for row in [*(row for _, row in rows()), *published_imagenet()['configs']]}
    paths = (path.relative_to(ROOT / 'configs').as_posix() for path in (ROOT / 'configs').glob('[!_]*/[!_]*.py'))
    return sorted(set(paths) - known)


def model_index() -> str:
    """Return the text of ``model-index.yml``: collections and models in OpenMMLab's format."""
    methods = {row['method']: task for task, row in rows()}
    content = dict(Collections=[_collection(*item) for item in methods.items()],
                   Models=[_model(task, row) for task, row in rows()])
    return f'# {NOTE}\n' + yaml.safe_dump(content, sort_keys=False, width=120)


def _collection(method, task):
    metadata = {'Training Data': DATA[task], 'Training Techniques': ['AdamW', 'Layer-wise Learning Rate Decay'],
                'Architecture': ['ConvNeXt', method]}
    return dict(Name=method, Metadata=metadata, Paper=dict(PAPER), README='docs/model_zoo.md')


def _model(task, row):
    length = {'Epochs': row['max_epochs']} if task == 'coco' else {'Iterations': row['max_iters']}
    techniques = ['AdamW', 'Layer-wise Learning Rate Decay', *(['Mixed Precision Training'] if row['amp'] else [])]
    metadata = {'Training Data': DATA[task], 'Training Techniques': techniques, **length,
                'Batch Size': row['batch_size'],
                'Architecture': [f'ConvNeXt-{LETTERS[row["arch"]]}', row['method']],
                'Pretraining Data': row['pretrain'],
                'Parameters (M)': row['params_m'], 'FLOPs (G)': row['flops_g']}
    return {'Name': row['config'].removesuffix('.py'), 'In Collection': row['method'],
            'Config': f'configs/{row["config"]}', 'Metadata': metadata, 'Results': _results(task, row),
            'Weights': row['finetuned_weights'], 'Paper': dict(PAPER), 'README': 'docs/model_zoo.md'}


def _results(task, row):
    if task == 'ade20k':
        figures = {'Semantic Segmentation': {'mIoU': row['miou_single_scale'],
                                             'mIoU(ms+flip)': row['miou_multi_scale_flip']}}
    else:
        figures = {'Object Detection': {'box AP': row['box_ap']},
                   'Instance Segmentation': {'mask AP': row['mask_ap']}}
    return [dict(Task=name, Dataset=DATA[task], Metrics=metrics) for name, metrics in figures.items()]


def page() -> str:
    """Return the text of ``docs/model_zoo.md``."""
    parts = [INTRODUCTION.format(**PAPER), f'\n<!-- {NOTE} -->\n']
    for models in _by_method(published()['coco']):
        parts += [COCO.format(**models[0], shapes=_shapes(models)),
                  _table(['config', 'pre-trained on', 'box AP', 'mask AP', 'parameters', 'FLOPs', 'checkpoint'],
                         [[f'`{row["config"]}`', row['pretrain'], row['box_ap'], row['mask_ap'], *_cost(row)]
                          for row in models])]
    for models in _by_method(published()['ade20k']):
        parts += [ADE20K.format(**models[0], shapes=_shapes(models)), _table(
            ['config', 'pre-trained on', 'mIoU', 'mIoU, multi-scale', 'parameters', 'FLOPs', 'checkpoint'],
            [[f'`{row["config"]}`', row['pretrain'], row['miou_single_scale'], row['miou_multi_scale_flip'],
              *_cost(row)] for row in models])]
    parts += [CLASSIFIERS, _table(['config', 'starts from', 'image size', 'top-1'],
                                  [_classifier(row['config']) for row in published_imagenet()['configs']])]
    parts += [OTHERS, _table(['config', 'what it is'],
                             [[f'`{name}`', _summary(ROOT / 'configs' / name)] for name in other_configs()])]
    files = [row for row in weights().values() if not row.data.startswith('configs/')]
    parts += [WEIGHTS, _table(
        ['name', 'size', 'trained on', 'image size', 'top-1', 'licence'],
        [[f'[{row.name}]({row.url})', row.arch, row.data, row.resolution[0],
          row.accuracy.split(' %')[0] if row.accuracy else '', row.licence] for row in files])]
    return ''.join(parts)


def _classifier(config):
    """Return the cells of a classifier's config."""
    row = imagenet_recipe(config)
    start = f'`{row["start"]}`' if row['start'] else 'random weights'
    top1 = next((f'{known["top1"]}; {known["top1_readme"]} in the official README'
                 for known in published_imagenet()['isotropic']
                 if known['arch'] == row['arch'] and known['top1'] != known['top1_readme']), row['top1'])
    return f'`{config}`', start, row['resolution'], 'none: on ImageNet-22K' if top1 is None else top1


def _by_method(models):
    """Return the rows of each method, in order."""
    methods = dict.fromkeys(row['method'] for row in models)
    return [[row for row in models if row['method'] == method] for method in methods]


def _shapes(models):
    """Return the heights and widths at which the cost of models is counted, such as ``512x2048 and 640x2560``."""
    return ' and '.join(dict.fromkeys('x'.join(map(str, row['flops_shape'])) for row in models))


def _cost(row):
    name = posixpath.splitext(posixpath.basename(row['finetuned_weights']))[0]
    return f'{row["params_m"]} M', f'{row["flops_g"]} G', f'[{name}]({row["finetuned_weights"]})'


def _summary(path):
    """Return the first line of a config's docstring."""
    return ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]


def _table(head, lines):
    """Return a table in Markdown, after an empty line, with figures at the right."""
    figures = [any(re.match(r'\d', str(line[i])) for line in lines) for i in range(len(head))]
    cells = [head, ['--:' if is_figure else ':--' for is_figure in figures], *lines]
    return '\n' + ''.join(f'| {" | ".join(map(str, line))} |\n' for line in cells)


def main() -> None:
    """Write both files."""
    for path, text in ((ROOT / 'model-index.yml', model_index()), (ROOT / 'docs/model_zoo.md', page())):
        with whole_file(path) as temporary:
            Path(temporary).write_text(text, encoding='utf-8')
        print(path.relative_to(ROOT))


if __name__ == '__main__':
    main()
