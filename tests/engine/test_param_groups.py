"""With the config's schedules a resumed run has the rates of a fresh, longer one, bit by bit."""
import contextlib
import json

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from convnext_mm.engine.one_cycle import end_in_config
from convnext_mm.engine.resume import set_resume
from convnext_mm.utils.errors import UserError
from tests.helpers import engines
from tests.helpers.toy import build_runner

#: Iterations of an epoch of the toy.
STEPS = 5


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    # To ask a compiler and others for their versions takes longer than a run.
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)


class Values(Hook):
    """Note the values of every group with which each iteration trains."""

    def before_run(self, runner):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen[runner.iter] = [
            {key: group[key] for key in ('lr', 'weight_decay', 'betas', 'momentum', 'eps') if key in group}
            for group in runner.optim_wrapper.param_groups]


def adam(lr, weight_decay=.05, constructor=None):
    keys = {'weight': dict(lr_mult=.3, decay_mult=.5), 'bias': dict(lr_mult=2., decay_mult=0.)}
    return dict(optimizer=dict(type='AdamW', lr=lr, weight_decay=weight_decay), paramwise_cfg=dict(custom_keys=keys))


def warm_up(end=7, **kwargs):
    return dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=end, **kwargs)


def ended(*schedules):
    cfg = Config(dict(param_scheduler=list(schedules)))
    end_in_config(cfg)
    return cfg.param_scheduler


# Schedules of a run of n iterations and e epochs.
SCHEDULES = {
    'none': lambda n, e: None,
    'MultiStep': lambda n, e: [dict(type='MultiStepLR', by_epoch=True, milestones=[e - 2, e - 1])],
    'warm-up, MultiStep': lambda n, e: [
        warm_up(), dict(type='MultiStepLR', by_epoch=True, begin=0, end=e, milestones=[e - 1, e])],
    'warm-up, cosine by epochs': lambda n, e: [
        warm_up(end=1, convert_to_iter_based=True) | dict(by_epoch=True),
        dict(type='CosineAnnealingLR', begin=1, end=e, T_max=e - 1, by_epoch=True, convert_to_iter_based=True,
             eta_min=1e-6)],
    'warm-up, poly': lambda n, e: [
        warm_up(), dict(type='PolyLR', power=.9, eta_min=1e-5, begin=0, end=n, by_epoch=False)],
    'one cycle': lambda n, e: [dict(type='OneCycleLR', eta_max=.01, total_steps=n, by_epoch=False)],
    'one cycle that ends before': lambda n, e: ended(
        dict(type='OneCycleLR', eta_max=.01, total_steps=n // 2 - 3, by_epoch=False, begin=1)),
    'one cycle by epochs': lambda n, e: ended(
        dict(type='OneCycleLR', eta_max=.01, total_steps=e - 1, by_epoch=True, convert_to_iter_based=True)),
    'restarts': lambda n, e: [dict(type='CosineRestartLR', periods=[n // 2, n // 2], restart_weights=[1, .5],
                                   eta_min=1e-6, by_epoch=False)],
    'constant, exponential': lambda n, e: [
        dict(type='ConstantLR', factor=.1, begin=0, end=6, by_epoch=False),
        dict(type='ExponentialLR', gamma=.1 ** (1 / e), by_epoch=True)],
    'momentum': lambda n, e: [dict(type='CosineAnnealingLR', T_max=n, by_epoch=False),
                              dict(type='CosineAnnealingMomentum', T_max=n, eta_min=.8, by_epoch=False)],
}


def run(folder, epochs, schedule, by_epoch=True, wrapper=None, steps=STEPS, **settings):
    values, iterations = Values(), epochs * STEPS
    length = dict(max_epochs=epochs) if by_epoch else dict(max_iters=iterations)
    hooks = [dict(type='convnext_mm.RunStateHook'), values, *settings.pop('hooks', [])]
    runner = build_runner(folder, length, hooks, by_epoch=by_epoch, checkpoint=dict(interval=1, max_keep_ckpts=-1),
                          optim_wrapper=wrapper or adam(.1), batch_size=10 // steps, **settings,
                          param_scheduler=schedule and schedule(iterations, epochs))
    runner.train()
    return values.seen


@pytest.fixture(scope='module')
def short(tmp_path_factory):
    """Runs of half the length with other rates, by whether they count epochs."""
    folders = {by_epoch: tmp_path_factory.mktemp('short') for by_epoch in (True, False)}
    for by_epoch, folder in folders.items():
        run(folder, 2, SCHEDULES['warm-up, poly'], by_epoch, adam(.03, .2))
    return folders


# The checkpoints at the end of the run, and in the middle of an epoch.
@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize(('by_epoch', 'checkpoints'), [(True, (10, 7)), (False, (10,))])
def test_a_longer_run_has_the_rates_of_a_fresh_one(tmp_path, short, name, by_epoch, checkpoints):
    schedule, hooks = SCHEDULES[name], [dict(type='convnext_mm.ResumeHook', holds='config')]
    fresh = run(tmp_path / 'fresh', 4, schedule, by_epoch)
    for done in checkpoints:
        resumed = run(tmp_path / str(done), 4, schedule, by_epoch, hooks=hooks, resume=True,
                      load_from=str(short[by_epoch] / f'iter_{done}.pth'))
        assert sorted(resumed) == list(range(done, 20))
        assert resumed == {step: values for step, values in fresh.items() if step >= done}


def test_layer_decay(tmp_path):
    def train(folder, epochs, lr, decay_rate, resume=()):
        wrapper = dict(engines.LAYER_DECAY, optimizer=dict(type='AdamW', lr=lr, weight_decay=lr),
                       paramwise_cfg=dict(decay_rate=decay_rate))
        values, schedule = Values(), [warm_up(), dict(type='PolyLR', end=epochs * STEPS, by_epoch=False)]
        cfg = engines.make_config(tmp_path / folder, epochs=epochs, batch_size=2, optim_wrapper=wrapper,
                                  param_scheduler=schedule)
        cfg.experiment_name = f'layer_decay_{folder}{epochs}'
        if resume:
            set_resume(cfg, *resume)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(values)
        runner.train()
        return values.seen

    fresh = train('fresh', 2, .1, .5)
    train('short', 1, .2, .9)
    resumed = train('short', 2, .1, .5, ('auto', 'config'))
    assert resumed == {step: values for step, values in fresh.items() if step >= STEPS}
    assert len(fresh[0]) > 8


# The checkpoint holds what it holds otherwise.
@pytest.mark.parametrize('hooks', [(), [dict(type='convnext_mm.ResumeHook')]])
def test_without_it_the_rates_of_the_checkpoint_go_on(tmp_path, hooks):
    schedule = SCHEDULES['warm-up, poly']
    short = run(tmp_path, 2, schedule, wrapper=adam(.03, .2))
    resumed = run(tmp_path, 2, schedule, wrapper=adam(.1), hooks=hooks, resume=True,
                  load_from=str(tmp_path / 'iter_4.pth'))
    assert resumed == {step: values for step, values in short.items() if step >= 4}


@pytest.mark.parametrize('holds', ['config', 'checkpoint'])
def test_the_log_has_the_rates_that_are_trained_with(tmp_path, short, holds):
    seen = run(tmp_path, 4, SCHEDULES['warm-up, poly'], hooks=[dict(type='convnext_mm.ResumeHook', holds=holds)],
               resume=True, load_from=str(short[True] / 'iter_7.pth'))
    file, = tmp_path.glob('*/vis_data/scalars.json')
    logged = {line['step'] - 1: line for line in map(json.loads, file.read_text().splitlines()) if 'loss' in line}
    assert sorted(logged) == sorted(seen)
    # The last of the groups has the rate of the config, by which mmengine tells it.
    assert {step: (line['lr'], line['base_lr']) for step, line in logged.items()} == {
        step: (groups[0]['lr'], groups[-1]['lr']) for step, groups in seen.items()}
    assert all(groups[0]['lr'] == pytest.approx(.3 * groups[-1]['lr'], abs=1e-5) for groups in seen.values())


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('ends', [True, False])
def test_a_one_cycle_that_has_ended_stays_at_its_last_rate(tmp_path, ends, by_epoch):
    """Also in the checkpoint of a run of mmengine's tools, which fails one step later."""
    def schedule(n, e):
        cycle = dict(type='OneCycleLR', eta_max=.01, total_steps=10, by_epoch=False)
        return ended(cycle) if ends else [cycle]

    with contextlib.nullcontext() if ends else pytest.raises(ValueError, match='Tried to step'):
        run(tmp_path, 4, schedule, by_epoch)
    later = run(tmp_path, 4, schedule, by_epoch, hooks=[dict(type='convnext_mm.ResumeHook')], resume=True,
                load_from=str(tmp_path / 'iter_10.pth'))
    assert sorted(later) == list(range(10, 20)) and all(values == later[10] for values in later.values())
    assert later[10][0]['lr'] < (1e-7 if ends else 1e-3)


@pytest.mark.parametrize(('settings', 'holds', 'message'), [
    (dict(wrapper=dict(optimizer=dict(type='AdamW', lr=.1))), 'checkpoint', '2 parameters in 2 groups, .* 2 in 1'),
    (dict(steps=10), 'config', 'an epoch of the config has 10 iterations, .* did 10 in 1 epochs'),
    (dict(steps=2), 'config', 'an epoch of the config has 2 iterations, .* did 10 in 1 epochs'),
    (dict(schedule=SCHEDULES['MultiStep']), 'checkpoint',
     'schedules .* do not fit .*MultiStepLR.*--resume-with config'),
    (dict(schedule=None), 'checkpoint', 'schedules .* do not fit the config.s .none.: ')])
def test_what_cannot_be_resumed_is_refused(tmp_path, settings, holds, message):
    run(tmp_path, 2, SCHEDULES['warm-up, poly'])
    before = sorted(tmp_path.glob('*.pth'))
    settings = dict(dict(schedule=SCHEDULES['warm-up, poly']), **settings)
    with pytest.raises(UserError, match=message) as raised:
        run(tmp_path, 3, hooks=[dict(type='convnext_mm.ResumeHook', holds=holds)], resume=True,
            load_from=str(tmp_path / 'iter_10.pth'), **settings)
    assert '\n' not in str(raised.value) and sorted(tmp_path.glob('*.pth')) == before


@pytest.mark.parametrize(('settings', 'resume', 'message'), [
    ({}, None, 'add --resume'),
    (dict(param_scheduler=dict(type='ReduceOnPlateauLR', monitor='score')), 'auto', 'cannot replay ReduceOnPlateauLR'),
    (dict(param_scheduler=[warm_up(), dict(type='ReduceOnPlateauMomentum', monitor='score')]), 'auto',
     'cannot replay ReduceOnPlateauMomentum'),
    (dict(strategy=dict(type='DeepSpeedStrategy')), 'auto', 'DeepSpeed')])
def test_where_the_config_cannot_hold(tmp_path, settings, resume, message):
    with pytest.raises(UserError, match=f'--resume-with .*{message}'):
        set_resume(Config(dict(work_dir=str(tmp_path), **settings)), resume, 'config')


def test_the_first_start_of_a_command_with_both_arguments(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path)))
    set_resume(cfg, 'auto', 'config')
    assert not cfg.resume and 'custom_hooks' not in cfg
