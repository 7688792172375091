"""mm's own tools and functions take the configs and checkpoints of this project, without a custom import.

`docs/mm-tools.md` has the table. In `make test` all run on the two configs of the demo, in `make check-long` on the
thirteen recipes besides, made small.
"""
import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

pytest.importorskip('mmdet.registry', reason='the tools are those of mmdet and mmseg')
pytest.importorskip('mmseg.registry', reason='the tools are those of mmdet and mmseg')

from convnext_mm.datasets import shapes
from convnext_mm.published.paper import published
from convnext_mm.utils.configs import walk
from tests.helpers.mm_tools import DEMOS, commands, known_fault, prepare
from tests.helpers.paths import ROOT
from tests.helpers.scripts import run_scripts
from tests.helpers.small import shrink

RECIPES = {row['config']: task for task, key in (('det', 'coco'), ('seg', 'ade20k')) for row in published()[key]}
NAMES = [(task, name) for task in DEMOS for name in commands(task)]


def run_all(folder, configs):
    """Run the tools on configs, ``{name of a folder: (task, config)}``; return {folder/name: (exit code, output)}."""
    every = {}
    for place, (task, config) in configs.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        image = prepare(folder / place, task, config)
        every |= {f'{place}/{name}': command for name, command in commands(task, image).items()}
    every['det/build'] = ['build.py', *(ROOT / 'configs' / recipe for recipe in RECIPES)]
    return run_scripts(folder, {name: every[name] for name in every if (folder / name).parent.is_dir()})


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The folder, and what every tool did to the demo's configs."""
    folder = tmp_path_factory.mktemp('demo')
    return folder, run_all(folder, {task: (task, config) for task, config in DEMOS.items()})


@pytest.mark.parametrize(('task', 'name'), NAMES)
def test_every_tool_on_the_demo(task, name, runs):
    assert not wrong(name, *runs[1][f'{task}/{name}'], known_fault(task, name))


def wrong(name, code, log, fault):
    """What is wrong with what a tool did; one with a fault of mm's own must show that fault."""
    if fault is None:
        return log[-3000:] if code else None
    return None if code and re.search(fault, log) else f'{name} no longer fails as the page says: {log[-3000:]}'


def scalars(folder):
    """What mmengine's logs in a work dir say, line by line."""
    return [json.loads(line) for file in folder.glob('2*/vis_data/scalars.json') for line in file.open()]


@pytest.mark.parametrize('task', DEMOS)
def test_what_the_tools_leave(task, runs):
    folder, logs = runs[0] / task, {name: runs[1][f'{task}/{name}'][1] for name in commands(task)}
    metric, last = ('coco/bbox_mAP', 'epoch_2.pth') if task == 'det' else ('mIoU', 'iter_3.pth')
    assert (folder / 'work' / last).is_file() and 'resumed' in logs['resume'].lower()
    # The project's own hooks, loop and metric were at work.
    lines = scalars(folder / 'work')
    assert any('lr/layer_00' in line for line in lines) and any(metric in line for line in lines)
    assert metric in logs['test'] and (task == 'det' or metric in logs['tta'])
    assert 'ConvNeXt' in logs['print_config'] and 'convnext_mm.' in logs['print_config']
    assert known_fault(task, 'get_flops') or re.search(r'Flops:\s*\d', logs['get_flops'], re.I)
    for name, pattern in (('browse_dataset', 'browsed/**/*.*'), ('confusion_matrix', 'matrix/*.png'),
                          ('publish_model', 'published-*.pth'), ('apis', 'inferred/**/*.*'),
                          ('test', '**/shown/**/*.png'), ('test', 'tested/2*/*.log'),
                          ('test', 'analyzed/**/*.png' if task == 'det' else 'results/*.png')):
        assert known_fault(task, name) or [file for file in folder.glob(pattern) if file.stat().st_size], pattern
    dumped = Config.fromfile(next(folder.glob('ours/2*/vis_data/config.py')))
    assert all(dumped[key].type.startswith('convnext_mm.') for key in ('test_evaluator', 'train_cfg'))
    if task == 'seg':
        assert Image.open(next((folder / 'results').glob('*.png'))).size == (96, 80)


def test_all_thirteen_load_and_build(runs):
    code, log = runs[1]['det/build']
    assert code == 0, log
    counts = dict(line.rsplit(' ', 1) for line in log.splitlines() if line.startswith(str(ROOT)))
    assert {*counts} == {str(ROOT / 'configs' / recipe) for recipe in RECIPES} and len(counts) == 13
    assert all(int(n) > 4e7 for n in counts.values())


@pytest.mark.parametrize('config', [*DEMOS.values(), *RECIPES])
def test_a_base_by_the_public_function_is_the_config_itself(config, tmp_path):
    (tmp_path / 'own.py').write_text(f"_base_ = __import__('convnext_mm').config({config!r})\n")
    assert Config.fromfile(tmp_path / 'own.py').to_dict() == Config.fromfile(ROOT / 'configs' / config).to_dict()


def small_recipe(config, task, file):
    """Write a recipe made small, with the data of the demo's, into ``file``, and return its path."""
    cfg, demo = shrink(Config.fromfile(ROOT / 'configs' / config)), Config.fromfile(ROOT / 'configs' / DEMOS[task])
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = demo[key].dataset
        cfg[key].dataset.update({name: dataset[name] for name in ('type', 'data_root', 'metainfo') if name in dataset})
    for _, node in walk(cfg.model):
        if 'num_classes' in node:
            node.num_classes = len(shapes.CLASSES if task == 'det' else shapes.SEMANTIC_CLASSES)
    for key in ('val_evaluator', 'test_evaluator'):
        if task == 'det':
            cfg[key].ann_file = demo[key].ann_file
    cfg.dump(file)
    return str(file)


@pytest.mark.long
def test_every_tool_on_the_recipes(size, tmp_path):
    configs = {}
    if not size(False, True):
        pytest.skip('takes long: `make check-long`')
    for config, task in RECIPES.items():
        file = tmp_path / f'{Path(config).parent.name}_{Path(config).name}'
        configs[file.stem] = task, small_recipe(config, task, file)
    logs = run_all(tmp_path, configs)
    said = {name: wrong(name, *logs[name], known_fault(configs[name.partition('/')[0]][0], name.partition('/')[2]))
            for name in logs}
    assert not any(said.values()), {name: text for name, text in said.items() if text}
