"""One table says where the config and the checkpoint of a resumed run differ, and which value holds."""
import copy

import pytest
from mmengine.runner import Runner

from convnext_mm.engine.resume import set_resume
from convnext_mm.engine.resume_table import format_differences
from tests.helpers import engines

SCHEDULE = [dict(type='LinearLR', start_factor=.1, by_epoch=False, begin=0, end=3),
            dict(type='MultiStepLR', by_epoch=True, milestones=[1])]
HINT = "The checkpoint's schedule, learning rate and weight decay hold; to take the config's from this step on, add " \
       '--resume-with config'


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    # To ask a compiler and others for their versions takes longer than a run.
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)


def build(work_dir, name, **settings):
    cfg = engines.make_config(work_dir, **dict(dict(param_scheduler=copy.deepcopy(SCHEDULE), batch_size=2), **settings))
    cfg.experiment_name = f'{work_dir.parent.name}_{name}'
    return cfg


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A checkpoint of one epoch."""
    folder = tmp_path_factory.mktemp('table')
    Runner.from_cfg(build(folder, 'finished', optim_wrapper=wrapper())).train()
    return folder / 'epoch_1.pth'


def wrapper(lr=.02, weight_decay=.05, momentum=.0, **kwargs):
    return dict(optimizer=dict(type='SGD', lr=lr, weight_decay=weight_decay, momentum=momentum), **kwargs)


def schedule(index, **settings):
    changed = copy.deepcopy(SCHEDULE)
    changed[index].update(settings)
    return dict(param_scheduler=changed)


LAYERS = dict(constructor='convnext_mm.LayerDecayOptimWrapperConstructor')
# Settings that differ, and the rows; `mine` stands for whose rates and schedules hold.
CASES = {
    'nothing': ({}, []),
    'rate': (dict(optim_wrapper=wrapper(lr=1e-5)), [('learning rate', '0.02', '1e-05', 'mine')]),
    'weight decay': (dict(optim_wrapper=wrapper(weight_decay=.1)), [('weight decay', '0.05', '0.1', 'mine')]),
    'momentum': (dict(optim_wrapper=wrapper(momentum=.9)),
                 [('optim_wrapper.optimizer.momentum', '0.0', '0.9', 'mine')]),
    'milestones': (schedule(1, milestones=[1, 2]), [('schedule 2, MultiStepLR.milestones', '[1]', '[1, 2]', 'mine')]),
    'warm-up': (schedule(0, end=4, start_factor=.2), [
        ('schedule 1, LinearLR.end', '3', '4', 'mine'), ('schedule 1, LinearLR.start_factor', '0.1', '0.2', 'mine'),
        ('schedule 1, LinearLR.total_iters', '2', '3', 'mine')]),
    'length and batch': (dict(epochs=1, batch_size=1, accumulation=2), [
        ('train_cfg.accumulation', '1', '2', 'config'), ('train_dataloader.batch_size', '2', '1', 'config'),
        ('optim_wrapper.accumulative_counts', '1', '2', 'config')]),
    'clipping': (dict(optim_wrapper=wrapper(clip_grad=dict(max_norm=1.))),
                 [('optim_wrapper.clip_grad', '-', 'max_norm', 'config')]),
    'model': (dict(model=dict(type='MeanLoss', drop_path_rate=.1)), [('model.drop_path_rate', '-', '0.1', 'config')]),
}


def logged(capfd):
    text = capfd.readouterr()
    return text.out + text.err


@pytest.mark.parametrize('holds', ['checkpoint', 'config'])
@pytest.mark.parametrize('name', CASES)
def test_the_table_names_what_differs(finished, tmp_path, capfd, name, holds):
    settings, rows = CASES[name]
    cfg = build(tmp_path, f'{name}_{holds}'.replace(' ', '_'), **dict(dict(optim_wrapper=wrapper()), **settings))
    set_resume(cfg, str(finished), holds)
    cfg.train_cfg.max_epochs = 1
    runner = Runner.from_cfg(cfg)
    capfd.readouterr()
    runner.train()
    told = logged(capfd)
    rows = [(*row[:3], row[3].replace('mine', holds)) for row in rows]
    assert ('differ:' in told) == bool(rows)
    if rows:
        assert told.count(format_differences(rows)) == 1, told
    assert (HINT in told) == any(row[3] == 'checkpoint' for row in rows)
    assert ('hold from this step on' in told) == (holds == 'config')


def test_a_long_table_is_cut():
    rows = [(f'setting {i}', '1', '2', 'config') for i in range(40)]
    lines = format_differences(rows).splitlines()
    assert len(lines) == 32 and lines[-1] == 'and 10 more'
