"""Every tool takes a config in mmengine's pure Python form: types are classes, the base is read, there is no scope."""
import json

import pytest
from mmengine.config import Config

pytest.importorskip('mmdet.registry', reason='the configs are for mmdet and mmseg')
pytest.importorskip('mmseg.registry', reason='the configs are for mmdet and mmseg')

from convnext_mm.datasets import shapes
from tests.helpers.paths import ROOT
from tests.helpers.pure_python import write_pure
from tests.helpers.scripts import run_scripts

SHORT = dict(cascade=['train_cfg.max_epochs=1', 'train_cfg.val_interval=1'],
             upernet=['train_cfg.max_iters=2', 'train_cfg.val_interval=2'])
FILES = dict(cascade=('epoch_1.pth', 'predictions.json'), upernet=('iter_2.pth', 'predictions'))
LONGER = dict(cascade=['train_cfg.max_epochs=2', 'train_cfg.val_interval=9'],
              upernet=['train_cfg.max_iters=3', 'train_cfg.val_interval=9'])
#: In `make test`, the detector is not trained, and what needs its checkpoint is left out.
QUICK = ('check_data', 'get_flops', 'usual_flops', 'show_layer_decay', 'swap_backbone', 'flops_of_swapped')
TOOLS = ('check_data', 'train', 'test', 'evaluate', 'predict', 'get_flops', 'show_layer_decay', 'report',
         'swap_backbone')


def commands(kind):
    """``{name: command}`` of every tool that takes a config."""
    ours = {name: ROOT / 'tools' / f'{name}.py' for name in TOOLS}
    checkpoint, predictions = FILES[kind]
    options = ['train_dataloader.batch_size=2', f'default_hooks.checkpoint.interval={1 if kind == "cascade" else 2}',
               'default_hooks.checkpoint.max_keep_ckpts=2']
    short, longer = (['--cfg-options', *lengths[kind], *options] for lengths in (SHORT, LONGER))
    every = {
        'check_data': [ours['check_data'], 'pure.py'],
        'train': [ours['train'], 'pure.py', '--work-dir', 'work', *short],
        'resume': [ours['train'], 'pure.py', '--work-dir', 'work', '--resume', *longer],
        'test': [ours['test'], 'pure.py', f'work/{checkpoint}', '--work-dir', 'work', '--out', predictions],
        'evaluate': [ours['evaluate'], predictions, 'pure.py', '--work-dir', 'evaluated'],
        'predict': [ours['predict'], 'pure.py', f'work/{checkpoint}', 'data/shapes', '--out-dir', 'predicted'],
        'get_flops': [ours['get_flops'], 'pure.py', '--json'],
        'usual_flops': [ours['get_flops'], f'convnext_mm::demo/{kind}.py', '--json'],
        'show_layer_decay': [ours['show_layer_decay'], 'pure.py'],
        'report': [ours['report'], 'work'],
        'swap_backbone': [ours['swap_backbone'], 'pure.py', '--arch', 'atto', '--pretrained', 'none', '--out',
                          'swapped.py'],
        'flops_of_swapped': [ours['get_flops'], 'swapped.py'],
        'train_swapped': [ours['train'], 'swapped.py', '--work-dir', 'again', *short]}
    if kind == 'upernet':
        every['tta'] = [ours['test'], 'pure.py', f'work/{checkpoint}', '--work-dir', 'work', '--tta']
    return every


def is_long(kind, name):
    return kind == 'cascade' and name not in QUICK


@pytest.fixture(scope='module')
def runs(tmp_path_factory, request):
    """The folder, and what every tool did to both configs: ``{kind/name: (exit code, output)}``."""
    folder, every = tmp_path_factory.mktemp('pure'), {}
    for kind, data, write in (('cascade', 'coco', shapes.generate_coco), ('upernet', 'ade', shapes.generate_ade)):
        write(folder / kind / 'data/shapes' / data, train=2, val=2, width=96, height=80)
        write_pure(ROOT / f'configs/demo/{kind}.py', folder / kind)
        every |= {f'{kind}/{name}': command for name, command in commands(kind).items()
                  if not is_long(kind, name) or request.config.getoption('--long')}
    return folder, run_scripts(folder, every)


@pytest.mark.parametrize(('kind', 'name'), [
    pytest.param(kind, name, marks=[pytest.mark.long] * is_long(kind, name))
    for kind in SHORT for name in commands(kind)])
def test_every_tool(kind, name, runs):
    if f'{kind}/{name}' not in runs[1]:
        pytest.skip('takes long: `make check-long`')
    code, log = runs[1][f'{kind}/{name}']
    assert code == 0, log[-3000:]


@pytest.mark.parametrize('kind', SHORT)
def test_the_figures_are_those_of_the_usual_form(kind, runs):
    folder, logs = runs
    usual, pure = (json.loads(text[text.index('{"'):].splitlines()[0])
                   for text in (logs[f'{kind}/{name}'][1] for name in ('usual_flops', 'get_flops')))
    assert usual == pure
    # What was swapped is again in the pure form, with the classes of the original.
    swapped, original = (Config.fromfile(folder / kind / f'{name}.py') for name in ('swapped', 'pure'))
    assert swapped.default_scope is None and swapped.model.type is original.model.type
    assert swapped.model.backbone.arch == 'atto' and isinstance(swapped.model.type, type)
