"""The demo: its configs are the families' own, only smaller; progress, table, pictures and exit codes are right."""
import ast
import json
import os
import time

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from convnext_mm.apis import demo
from convnext_mm.apis.cli import main as run_command
from convnext_mm.datasets import shapes
from convnext_mm.datasets.sources import build_unread
from convnext_mm.utils.config_files import find_config

for _toolbox in ('mmdet', 'mmseg', 'mmpretrain', 'timm'):
    pytest.importorskip(_toolbox, reason=f'the demo needs {_toolbox}')

CLASSIFIER, CASCADE, UPERNET = demo.MODELS
FAMILIES = {'convnext_mm::demo/classifier.py': 'convnext_mm::imagenet/_base_.py',
            'convnext_mm::demo/cascade.py': 'convnext_mm::cascade/_base_.py',
            'convnext_mm::demo/upernet.py': 'convnext_mm::upernet/_base_.py'}
#: What the demo's classifier does without, or has of its own: its training is too short for the official one.
OWN = {'train_cfg', 'layer_scale_init_value', 'init_cfg', 'crop_pct', 'scale', 'ratio', 'auto_augment', 're_prob'}


def load(path):
    return Config.fromfile(find_config(path))


def leaves(node, path=()):
    """(path, value) of everything below a config that is no container."""
    if isinstance(node, (dict, list, tuple)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, key))
    else:
        yield path, node


def pair(path, key):
    """A part of a family and of its demo, flattened."""
    return (dict(leaves(load(name)[key])) for name in (FAMILIES[path], path))


@pytest.mark.parametrize('path', FAMILIES)
class TestConfigs:
    def test_its_docstring_says_that_the_demo_runs_it(self, path):
        assert path in [model.config for model in demo.MODELS]
        assert '(`make demo`)' in ast.get_docstring(ast.parse(find_config(path).read_text())).splitlines()[0]

    def test_the_model_is_the_familys_but_for_sizes(self, path):
        family, small = pair(path, 'model')
        sizes = {'in_channels', 'out_channels', 'channels', 'feat_channels', 'conv_out_channels', 'fc_out_channels',
                 'num_classes', 'num', 'pos_fraction', 'nms_pre', 'max_per_img', 'size', 'crop_size', 'stride',
                 'pad_value', 'pad_val', 'arch'} | (OWN if 'classifier' in path else set())
        for where, value in family.items():
            assert sizes & set(where) or small[where] == value, where
        assert all(sizes & set(where) for where in set(small) - set(family))

    def test_the_pipeline_is_the_familys_but_for_lengths(self, path):
        for split in ('train', 'val', 'test'):
            family, small = (dict(leaves(load(name)[f'{split}_dataloader'].dataset.pipeline))
                             for name in (FAMILIES[path], path))
            own = {where for where in small if 'classifier' in path and OWN & set(where)}
            assert set(family) == set(small) - own
            for where, value in family.items():
                if {'scale', 'scales', 'crop_size', 'size'} & set(where) and 'type' not in where:
                    assert 3 <= value / small[where] <= 5.1, where
                else:
                    assert small[where] == value, where

    def test_the_loaders_are_the_familys(self, path):
        for split in ('train', 'val', 'test'):
            family, small = pair(path, f'{split}_dataloader')
            changed = {where for where in family if 'pipeline' not in where and small.get(where) != family[where]}
            assert changed <= {('num_workers',), ('batch_size',), ('dataset', 'type'), ('dataset', 'data_root'),
                               ('dataset', 'split')}

    def test_the_optimizer_is_the_familys_but_for_rates(self, path):
        family, small = pair(path, 'optim_wrapper')
        assert family.keys() == small.keys()
        assert {where for where in family if family[where] != small[where]} <= {
            ('optimizer', 'lr'), ('paramwise_cfg', 'decay_rate')}

    def test_the_schedule_is_the_familys_but_shorter(self, path):
        family, small = (load(name) for name in (FAMILIES[path], path))
        assert [s.type for s in small.param_scheduler] == [s.type for s in family.param_scheduler]
        length = 'max_epochs' if 'max_epochs' in family.train_cfg else 'max_iters'
        assert small.train_cfg.type == family.train_cfg.type
        assert small.train_cfg[length] < family.train_cfg[length]
        assert small.train_cfg.val_interval == small.train_cfg[length], 'validation at the end alone'
        last = small.param_scheduler[-1]
        if 'classifier' in path:
            assert last.end == small.train_cfg.max_epochs
            assert [s.begin for s in small.param_scheduler] == [0, small.param_scheduler[0].end]
        elif 'milestones' in last:
            ratio = family.train_cfg.max_epochs / small.train_cfg.max_epochs
            assert [ratio * m for m in last.milestones] == pytest.approx(family.param_scheduler[-1].milestones, abs=1)
        else:
            assert last.end == small.train_cfg.max_iters + 1

    def test_everything_else_is_the_familys(self, path):
        family, small = (load(name) for name in (FAMILIES[path], path))
        assert set(family) == set(small), 'a helper variable leaks into the config'
        for key in ('default_scope', 'auto_scale_lr', 'env_cfg', 'log_processor', 'visualizer', 'val_cfg', 'test_cfg',
                    'load_from', 'resume'):
            assert small[key] == family[key], key
        assert small.test_evaluator.type == family.test_evaluator.type

    def test_it_starts_from_random_weights_and_builds(self, path):
        from mmengine.registry import MODELS, init_default_scope
        cfg = load(path)
        assert cfg.model.backbone.get('init_cfg', {}).get('type') != 'Pretrained'
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
        assert sum(p.numel() for p in model.parameters()) < 6e6

    def test_classes_are_those_of_the_generated_data(self, path):
        from mmengine.registry import init_default_scope
        cfg = load(path)
        init_default_scope(cfg.default_scope)
        names = shapes.SEMANTIC_CLASSES if 'upernet' in path else shapes.CLASSES
        # The classifier's are the names of the folders.
        for split in ('train', 'val', 'test') if 'classifier' not in path else ():
            meta = build_unread(cfg[f'{split}_dataloader'].dataset, split).metainfo
            assert tuple(meta['classes']) == names and len(meta['palette']) == len(names)
        heads = {value for where, value in leaves(cfg.model) if where[-1] == 'num_classes'}
        assert heads == {len(names)}


@pytest.mark.parametrize(('line', 'shown'), [
    ('11/21 04:05 - mmengine - INFO - Epoch(train)  [2][20/40]  base_lr: 1e-03 lr: 1e-04  eta: 0:05:47  time: 0.8460  '
     'data_time: 0.01  loss: 2.5817  loss_rpn_cls: 0.1', 'epoch 2, 20/40, loss 2.5817, 5:47 left'),
    ('INFO - Iter(train) [ 50/400]  base_lr: 8e-04 lr: 4e-04  eta: 0:00:09  time: 0.7  data_time: 0.1  loss: 1.4  '
     'decode.loss_ce: 0.9', '50/400, loss 1.4, 0:09 left'),
    ('INFO - Epoch(val) [12][10/40]    eta: 0:01:40  time: 3.3', 'validation 10/40, 1:40 left'),
    ('INFO - Iter(val) [10/40]    eta: 0:00:01  time: 3.3', 'validation 10/40, 0:01 left'),
    ('INFO - Epoch(test) [10/40]    eta: 1:11:40  time: 3.3', '10/40, 1:11:40 left'),
    ('INFO - Iter(test) [10/40]    eta: 0:10:40  time: 3.3', '10/40, 10:40 left'),
    ('INFO - Epoch(train)   [1][1/9]  lr: 1e-4  eta: 1 day, 2:03:04  loss: 2.5',
     'epoch 1, 1/9, loss 2.5, 1 day, 2:03:04 left'),
    ('INFO - Epoch(val) [12][40/40]    coco/bbox_mAP: 0.0060  time: 0.7', None),
    ('INFO - Saving checkpoint at 12 epochs', None), ('', None)])
def test_progress(line, shown):
    assert demo.read_progress(line) == shown


def step(tmp_path, code, name='step'):
    return demo.follow_step(['python', '-c', code], tmp_path, tmp_path / 'logs' / f'{name}.log')


def test_steps_show_their_commands_logs_and_progress(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, 'AT_ONCE', 2)
    code = ('import time; print("INFO - Iter(test) [1/4]  eta: 0:00:03  time: 1", flush=True); print("other"); '
            'print("INFO - Iter(test) [2/4]  eta: 0:00:02  time: 1", end="", flush=True); time.sleep({})')
    seconds = demo.run_together({'a': step(tmp_path, code.format(3), 'a'), 'b': step(tmp_path, code.format(0), 'b')})
    assert 3 < seconds[0] < 30 and 0 < seconds[1] < 30
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith('    $ python -c ') and shown[1].endswith('logs/a.log')
    assert shown[2].startswith('    $ python -c ') and shown[3].endswith('logs/b.log')
    assert len(shown) == 5 and ': 1/4, 0:03 left' in shown[4], 'one line a while, not each'
    assert (tmp_path / 'logs' / 'a.log').read_text().count('\n') == 2


def test_one_step_runs_to_its_end(tmp_path, capsys):
    """As `roadmap --train` runs it."""
    assert 0 < demo.run_step(['python', '-c', 'open("done", "w")'], tmp_path, tmp_path / 'step.log') < 30
    assert (tmp_path / 'done').exists()
    assert capsys.readouterr().out.splitlines()[-1] == '    done in 0:00'


@pytest.mark.parametrize('at_once', [1, 2, 3])
def test_so_many_steps_at_once(at_once, monkeypatch):
    def job(name):
        running.add(name)
        most.append(len(running))
        yield name
        yield name
        running.remove(name)
        return name.upper()
    running, most = set(), []
    monkeypatch.setattr(demo, 'AT_ONCE', at_once)
    monkeypatch.setattr(demo.time, 'sleep', lambda seconds: None)
    assert demo.run_together({name: job(name) for name in 'abcd'}) == list('ABCD')
    assert max(most) == at_once


def test_a_failed_step_shows_the_end_of_its_log_and_ends_the_others(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, 'AT_ONCE', 2)
    code = 'import sys; [print("line", i) for i in range(100)]; sys.exit("it broke")'
    other = 'import os, time; open("pid", "w").write(str(os.getpid())); time.sleep(60)'
    with pytest.raises(demo.StepFailed) as raised:
        demo.run_together({'other': step(tmp_path, other, 'other'), 'broken': step(tmp_path, code)})
    assert raised.value.code == 1
    shown = capsys.readouterr().out
    assert 'failed with exit code 1' in shown and 'it broke' in shown
    assert 'line 99' in shown and 'line 70\n' not in shown
    assert_ended(tmp_path / 'pid')


def assert_ended(pid):
    """The process whose number is in a file, or that ended before it wrote the file, runs no more."""
    with pytest.raises(ProcessLookupError):
        # No process has a number above 2 ** 22.
        os.kill(int(pid.exists() and pid.read_text() or 2 ** 22 + 1), 0)


def test_an_interrupted_step_ends_its_process(tmp_path, monkeypatch):
    def interrupt(seconds):
        if (tmp_path / 'pid').exists() and (tmp_path / 'pid').read_text():
            raise KeyboardInterrupt
        sleep(.05)
    sleep = time.sleep
    monkeypatch.setattr(demo.time, 'sleep', interrupt)
    with pytest.raises(KeyboardInterrupt):
        demo.run_together({'a': step(tmp_path, 'import os, time; open("pid", "w").write(str(os.getpid())); '
                                               'time.sleep(60)')})
    assert_ended(tmp_path / 'pid')


def test_figures_are_those_of_the_test(tmp_path):
    (tmp_path / 'evaluation.json').write_text(json.dumps({'figures': [
        dict(metric='box AP', key='coco/bbox_mAP', measured=81.5),
        dict(metric='x', key='coco/bbox_mAP_l', measured=None)]}))
    assert demo.read_metrics(tmp_path) == {'coco/bbox_mAP': .815}


def results(box=.9, mask=.85, miou=.95, top1=.99):
    return [(CLASSIFIER, {'top-1': top1}, 21., 9.),
            (CASCADE, {'box AP': box, 'mask AP': mask}, 245., 21.), (UPERNET, {'mIoU': miou}, 90., 8.)]


def test_table():
    assert demo.format_results(results(), True).splitlines() == [
        'model               metric   value   bar  training  test',
        'Classifier          top-1    0.990  0.95      0:21  0:09',
        'Cascade Mask R-CNN  box AP   0.900  0.80      4:05  0:21',
        '                    mask AP  0.850  0.80',
        'UPerNet             mIoU     0.950  0.85      1:30  0:08']
    assert 'bar' not in demo.format_results(results(), False)


@pytest.mark.parametrize(('outcome', 'quick', 'code', 'said'), [
    (results(), False, 0, 'total time'),
    (results(top1=.94), False, 1, 'demo failed: top-1 0.940 is below 0.95'),
    (results(box=.7999), False, 1, 'demo failed: box AP 0.800 is below 0.80'),
    (results(mask=.5, miou=.8), False, 1, 'demo failed: mask AP 0.500 is below 0.80, mIoU 0.800 is below 0.85'),
    (results(0, 0, 0, 0), True, 0, 'total time'),
    (demo.StepFailed(2), False, 2, ''), (demo.StepFailed(-9), False, 137, ''),
    (KeyboardInterrupt(), False, 130, 'interrupted')])
def test_exit_codes(tmp_path, monkeypatch, capsys, outcome, quick, code, said):
    def job(*args):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
    monkeypatch.setattr(demo, '_run', job)
    assert demo.run(tmp_path, quick) == code
    assert said in capsys.readouterr().out


def test_a_sheet_shows_pictures_of_all_folders(tmp_path):
    for i in range(5):
        demo.write_picture(tmp_path / 'kind' / f'{i // 2}/{i}.png', np.full((4, 6, 3), i, np.uint8))
    for columns, expected in ((1, [[0], [1], [3]]), (2, [[0, 1], [2, 3], [4, 255]])):
        demo.draw_sheet(tmp_path / 'kind', columns)
        assert np.array(Image.open(tmp_path / 'kind.png'))[::4, ::6, 0].tolist() == expected


def test_a_model_without_its_packages_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(demo, 'is_missing', 'timm'.__eq__)
    assert demo.choose_models() == [CASCADE, UPERNET]
    assert capsys.readouterr().out == 'Classifier is left out: it needs timm, not installed here\n'


def test_the_whole_job(tmp_path, capsys):
    assert demo.run(tmp_path, quick=True) == 0
    shown = capsys.readouterr().out
    for text in ('about a minute', '8 images for training', 'epoch 1, 1/', '--show-dir', 'train UPerNet',
                 'top-1', 'box AP', 'mask AP', 'mIoU', 'total time', 'work_dirs/demo/pictures'):
        assert text in shown, text
    pictures = tmp_path / 'work_dirs' / 'demo' / 'pictures'
    names = {'classification': {path.stem for path in (tmp_path / 'data/shapes/classes/val').rglob('*.png')},
             'detection': {f'{1_000_001 + i:012d}' for i in range(4)},
             'segmentation': {f'shapes_val_{1 + i:08d}' for i in range(4)}}
    assert {path.name for path in pictures.iterdir()} == {*names, *(f'{kind}.png' for kind in names)}
    for kind, stems in names.items():
        assert {path.stem for path in (pictures / kind).rglob('*.png')} == stems, kind


@pytest.mark.parametrize('arguments', [['--fast'], ['now']])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        run_command('demo', arguments)
    assert raised.value.code == 2
    assert capsys.readouterr().err.count('\n') == 1
