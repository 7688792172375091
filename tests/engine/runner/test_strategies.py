"""Two processes under a strategy do what one process does on all of the data, and leave its checkpoints.

Everything here runs on the CPU, in processes connected by gloo; a training is five steps of two images.
"""
import copy
import os
import subprocess
import sys
from itertools import product

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from convnext_mm.apis import arguments
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read
from convnext_mm.engine import strategy_choice
from convnext_mm.engine.resume import set_resume
from convnext_mm.engine.runner import strategies
from convnext_mm.models.arguments import COMPILE_SINCE
from convnext_mm.utils.errors import RunInterrupted, UserError
from tests.helpers import engines
from tests.helpers.engines import LAYER_DECAY, SGD, STRATEGIES, last, relative
from tests.helpers.paths import ROOT
from tests.helpers.processes import run

TORCH = tuple(map(int, torch.__version__.split('.')[:2]))
if TORCH < (2, 4):
    pytest.skip(f'FSDP of torch {torch.__version__} does not run on a CPU', allow_module_level=True)

INTERRUPTED = 'interrupted_iter_3.pth'
EMA = dict(custom_hooks=[dict(type='EMAHook', momentum=.3, update_buffers=True)])
#: Settings of a training, for a loss that is the same whether two images are one batch or two.
MEANS = {
    'plain': {},
    'layer_decay': dict(optim_wrapper=LAYER_DECAY),
    'layer_wise_custom': dict(optim_wrapper=dict(LAYER_DECAY, paramwise_cfg=dict(
        decay_rate=.5, custom_keys={'stages.2.1.': dict(lr_mult=3.), 'head': dict(lr_mult=2.)}))),
    'ema': dict(EMA, validate=True),
    'with_cp': dict(model=dict(type='MeanLoss', with_cp=True)),
    'frozen': dict(model=dict(type='MeanLoss', frozen_stages=2), optim_wrapper=LAYER_DECAY),
    'clipped': dict(optim_wrapper=dict(optimizer=SGD, clip_grad=dict(max_norm=.05))),
    'accumulated': dict(accumulation=2),
    'not_finite': dict(model=dict(type='MeanLoss', wrong=2)),
}
#: The same for what two batches of one image have to be compared with: precision or randomness by the batch.
IN_TURN = {
    'bfloat16': dict(bfloat16=True),
    'drop_path': dict(model=dict(type='MeanLoss', drop_path_rate=.5, with_cp=True)),
}

#: Two epochs, with an optimizer that has a state.
ADAMW = dict(epochs=2, optim_wrapper=dict(LAYER_DECAY, optimizer=dict(type='AdamW', lr=1e-3)))
TWICE = {'adamw': ADAMW, 'adamw_ema': dict(ADAMW, **EMA)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('strategies')


def other_classes(folder):
    """A training from a file for other classes, whose rate of 0 leaves everything as it was loaded."""
    return dict(load_from=str(folder / 'alone/adamw/epoch_1.pth'), model=dict(type='MeanLoss', classes=7),
                optim_wrapper=dict(optimizer=dict(SGD, lr=0.)))


@pytest.fixture(scope='module')
def alone(folder):
    """What a single process has at the end of each training."""
    trainings = {name: dict(settings, batch_size=2) for name, settings in MEANS.items()}
    trainings |= {name: dict(settings, accumulation=2, in_turn=2) for name, settings in IN_TURN.items()}
    trainings |= {'start': dict(optim_wrapper=dict(optimizer=dict(SGD, lr=0.)))}
    trainings |= {name: dict(settings, batch_size=2) for name, settings in TWICE.items()}
    trainings |= {'classes': dict(other_classes(folder), batch_size=2)}
    return dict(zip(trainings, run(engines.train_all, [((folder / 'alone' / name,), settings)
                                                       for name, settings in trainings.items()], count=1)[0]))


@pytest.fixture(scope='module')
def by_strategy(folder):
    """For each strategy what each of two processes has at the end of each training."""
    trainings = MEANS | IN_TURN | TWICE
    results = {strategy: run(engines.train_all, [((folder / strategy / name, strategy), settings)
                                                 for name, settings in trainings.items()]) for strategy in STRATEGIES}
    return {strategy: dict(zip(trainings, zip(*result))) for strategy, result in results.items()}


@pytest.fixture(params=STRATEGIES)
def together(request, by_strategy):
    """The strategy, and what each of two processes has at the end of each training."""
    return request.param, by_strategy[request.param]


@pytest.mark.parametrize('case', [*MEANS, *IN_TURN])
def test_weights_are_those_of_one_process(case, alone, together, folder):
    strategy, results = together
    assert [result['wrapper'] for result in results[case]] == [STRATEGIES[strategy]] * 2
    ours, theirs, start = (last(folder / who) for who in (f'{strategy}/{case}', f'alone/{case}', 'alone/start'))
    assert (ours['meta']['iter'], ours['meta']['epoch']) == (theirs['meta']['iter'], theirs['meta']['epoch'])
    for key in ('state_dict', 'ema_state_dict') if case == 'ema' else ('state_dict',):
        assert relative(ours[key], theirs[key]) < 1e-5, key
    # What the training changed is far above that.
    assert relative(start['state_dict'], theirs['state_dict']) > 1e-2
    # The file is a plain model's.
    plain = MODELS.build(copy.deepcopy(MEANS.get(case, IN_TURN.get(case)).get('model', dict(type='MeanLoss'))))
    plain.load_state_dict(ours['state_dict'], strict=True)


def test_each_case_is_of_its_own(alone, folder):
    """No two trainings have the same weights, so that none of them leaves out what it is about."""
    same = {'ema', 'with_cp', 'plain'}
    others = [name for name in [*MEANS, *IN_TURN] if name not in same]
    weights = {name: last(folder / 'alone' / name)['state_dict'] for name in ['plain', *others]}
    for i, name in enumerate(weights):
        for other in list(weights)[:i]:
            assert relative(weights[name], weights[other]) > 1e-4, (name, other)


def test_layer_decay_gives_each_parameter_its_rate(alone, together):
    for case in ('layer_decay', 'layer_wise_custom', 'frozen'):
        for result in together[1][case]:
            assert result['groups'] == alone[case]['groups']


def test_fsdp_divides_and_ddp_does_not(alone, together):
    strategy, results = together
    held, whole = [result['held'] for result in results['plain']], alone['plain']['held']
    assert held == [whole, whole] if strategy == 'ddp' else whole <= sum(held) < 1.1 * whole


def test_clipping_is_by_the_norm_of_everything(alone, together):
    for result in together[1]['clipped']:
        assert result['norm'] == pytest.approx(alone['clipped']['norm'], rel=1e-5)
        assert min(result['norm']) > .05


def test_validation_sees_the_averages(alone, together):
    for result in together[1]['ema']:
        assert result['scores'] == pytest.approx(alone['ema']['scores'], rel=1e-5)
        assert len(result['scores']) == 5


def test_bfloat16_is_mixed_precision(alone, together):
    assert alone['bfloat16']['amp'] and all(result['amp'] for result in together[1]['bfloat16'])


@pytest.mark.long
@pytest.mark.skipif(TORCH < COMPILE_SINCE, reason='compile=True needs torch 2.6')
def test_compiled_blocks(folder, size):
    """With their graphs taken alone, or with code generated from them (`make check-long`)."""
    # One width, since each is compiled by itself.
    model = dict(type='MeanLoss', compile=True, with_cp=2, arch=dict(depths=(1, 1, 2, 1), channels=(24,) * 4))
    settings = dict(model=model, backend=size('aot_eager', 'inductor'))
    run(engines.train_all, [((folder / 'alone/compiled',), dict(settings, batch_size=2))], count=1)
    run(engines.train_all, [((folder / strategy / 'compiled', strategy), settings) for strategy in STRATEGIES])
    for strategy in STRATEGIES:
        ours, theirs = (last(folder / who / 'compiled')['state_dict'] for who in (strategy, 'alone'))
        assert relative(ours, theirs) < 1e-5


# Going on.

#: Strategies of the first epoch and of the second; None is a single process.
PAIRS = [('fsdp', 'fsdp'), ('fsdp', 'ddp'), ('fsdp', None), ('ddp', 'fsdp'), (None, 'fsdp')]


@pytest.fixture(scope='module')
def resumed(alone, by_strategy, folder):
    """Trainings of two epochs, the second of them resumed: (first, then, case) -> folder."""
    found, trainings = {}, {}
    for (first, then), case in product(PAIRS, TWICE):
        found[first, then, case] = work_dir = folder / f'{first}-{then}' / case
        trainings.setdefault(then, []).append(((work_dir, then), dict(
            TWICE[case], resume=True, load_from=str(folder / (first or 'alone') / case / 'epoch_1.pth'),
            batch_size=2 if then is None else 1)))
    for then, calls in trainings.items():
        run(engines.train_all, calls, count=1 if then is None else 2)
    return found


@pytest.mark.parametrize('case', TWICE)
@pytest.mark.parametrize(('first', 'then'), PAIRS)
def test_a_run_goes_on_under_any_strategy(first, then, case, resumed, folder):
    ours, theirs = last(resumed[first, then, case]), last(folder / (first or 'alone') / case)
    assert ours['meta']['iter'] == theirs['meta']['iter'] == 10
    # Adam divides by the size of a gradient, and so shows every rounding of one near zero.
    tolerance = 0 if first == then else 1e-3
    for key in ('state_dict', 'ema_state_dict') if case == 'adamw_ema' else ('state_dict',):
        assert relative(ours[key], theirs[key]) <= tolerance, key
    ours, theirs = (content['optimizer']['state'] for content in (ours, theirs))
    assert ours.keys() == theirs.keys()
    assert all(relative(ours[i], theirs[i]) <= tolerance for i in theirs)


@pytest.fixture(scope='module')
def ended(alone, by_strategy, folder):
    """What ends runs under FSDP: a signal (and what goes on from there), files that do not fit, or not wholly."""
    stop, other, file = dict(type='MeanLoss', stop=2), folder / 'other', str(folder / 'fsdp/adamw/epoch_1.pth')
    trainings = [
        ((folder / 'stopped', 'fsdp'), dict(ADAMW, model=stop)),
        ((folder / 'stopped', 'fsdp'), dict(ADAMW, resume=True, load_from=str(folder / 'stopped' / INTERRUPTED))),
        ((other, 'fsdp'), dict(load_from=file, model=dict(type='MeanLoss', use_grn=True, layer_scale_init_value=0))),
        ((other, 'fsdp'), dict(load_from=file)),
        ((folder / 'fsdp/classes', 'fsdp'), other_classes(folder))]
    return list(zip(*run(engines.train_all, trainings)))


def test_sigterm_leaves_a_checkpoint_that_goes_on_exactly(ended, folder):
    for result in ended[0]:
        assert isinstance(result, RunInterrupted)
        assert str(folder / 'stopped' / INTERRUPTED) in str(result)
    assert not (folder / 'stopped' / INTERRUPTED).exists()
    assert relative(last(folder / 'stopped')['state_dict'], last(folder / 'fsdp/adamw')['state_dict']) == 0


def test_files_are_verified(ended):
    for result in ended[2]:
        assert isinstance(result, CheckpointError)
        assert 'set use_grn=False' in str(result)
    assert all(result['wrapper'] == STRATEGIES['fsdp'] for result in ended[3])


def test_heads_for_other_classes_begin_anew(ended, folder):
    ours, theirs = (last(folder / who / 'classes')['state_dict'] for who in ('fsdp', 'alone'))
    assert relative(ours, theirs) == 0
    assert len(theirs['head.cls_score.weight']) == 7
    # All else is the file's.
    file = read(str(folder / 'alone/adamw/epoch_1.pth'))['state_dict']
    kept = [name for name in file if 'head' not in name and name != 'seen']
    assert relative(*({name: content[name] for name in kept} for content in (ours, file))) == 0


@pytest.mark.parametrize(('device', 'count', 'offload'), [('cuda', 2, True), ('cuda', 1, False), ('cpu', 2, False)])
def test_whole_tensors_leave_the_gpu(device, count, offload, monkeypatch, tmp_path):
    """Processes are connected after the strategy is built, and before its model is wrapped."""
    monkeypatch.setattr(strategies.MMEngineFSDPStrategy, '_setup_env', lambda self: setattr(self, '_timestamp', 'now'))
    strategy = strategies.FSDPStrategy(work_dir=str(tmp_path))
    monkeypatch.setattr(strategies.MMEngineFSDPStrategy, '_wrap_model', lambda self, model: model)
    monkeypatch.setattr(strategies, 'get_device', lambda: device)
    monkeypatch.setattr(strategies, 'get_world_size', lambda: count)
    strategy._wrap_model(torch.nn.Linear(1, 1))
    assert strategy.state_dict_config.offload_to_cpu == strategy.optim_state_dict_config.offload_to_cpu == offload
    assert strategy.state_dict_config.rank0_only and strategy.optim_state_dict_config.rank0_only


# The choice.

def choose(name, launcher='pytorch', has_accelerator=False, **config):
    cfg = Config(dict(launcher=launcher, **config))
    if name is not None:
        strategy_choice.choose_strategy(cfg, name)
    strategy_choice.fit_to_strategy(cfg, name, has_accelerator)
    return cfg


@pytest.fixture
def has_deepspeed(monkeypatch):
    monkeypatch.setattr(strategy_choice, 'find_spec', lambda name: name)


def test_a_strategy_takes_the_place_of_the_configs_own():
    fsdp = dict(runner_type='Own', strategy=dict(type='FSDPStrategy', own=1), model_wrapper_cfg=dict(own=1))
    assert 'strategy' not in choose('ddp', **fsdp) and 'runner_type' not in choose('ddp', **fsdp)
    assert choose('ddp', **fsdp).model_wrapper_cfg.type == 'MMDistributedDataParallel'
    cfg = choose('fsdp', **fsdp)
    assert (cfg.runner_type, cfg.strategy.type) == ('convnext_mm.StrategyRunner', 'convnext_mm.FSDPStrategy')
    assert 'own' not in str(cfg)
    strategy_choice.drop_strategy(cfg)
    assert not {'runner_type', 'strategy'} & set(cfg)
    # A runner that is no strategy's stays.
    kept = Config(dict(runner_type='Own'))
    strategy_choice.drop_strategy(kept)
    assert kept.runner_type == 'Own'


@pytest.mark.parametrize('name', arguments.STRATEGIES)
def test_fragments_can_be_inherited(name, tmp_path, has_deepspeed):
    (tmp_path / 'own.py').write_text(f"_base_ = ['{ROOT}/configs/demo/upernet.py', "
                                     f"'{ROOT}/configs/_base_/strategies/{name}.py']")
    inherited, chosen = Config.fromfile(tmp_path / 'own.py'), Config.fromfile(ROOT / 'configs/demo/upernet.py')
    strategy_choice.choose_strategy(chosen, name)
    for cfg in (inherited, chosen):
        cfg.launcher = 'pytorch'
        strategy_choice.fit_to_strategy(cfg, None if cfg is inherited else name, has_accelerator=True)
    assert inherited.to_dict() == chosen.to_dict()


def test_mmengines_own_strategy_becomes_this_projects():
    cfg = choose(None, runner_type='FlexibleRunner', strategy=dict(type='FSDPStrategy', state_dict_cfg='local'))
    assert (cfg.runner_type, cfg.strategy.type) == ('convnext_mm.StrategyRunner', 'convnext_mm.FSDPStrategy')


def test_hooks_of_a_sharded_run():
    cfg = choose('fsdp', custom_hooks=[dict(type='EMAHook', momentum=.3), dict(type='Own')])
    assert cfg.custom_hooks == [dict(type='convnext_mm.ShardedEMAHook', momentum=.3), dict(type='Own'),
                                dict(type='convnext_mm.WholeValidationHook')]
    assert choose('ddp', custom_hooks=[dict(type='EMAHook')]).custom_hooks == [dict(type='EMAHook')]
    best = dict(checkpoint=dict(save_best=['top1', 'top1_plain']))
    assert choose('fsdp', default_hooks=best).default_hooks.checkpoint.save_best == ['top1']


@pytest.mark.parametrize(('wrapper', 'strategy'), [
    (dict(type='OptimWrapper'), dict(gradient_accumulation_steps=1)),
    (dict(type='AmpOptimWrapper', loss_scale='dynamic', accumulative_counts=4, clip_grad=dict(max_norm=.5)),
     dict(fp16=dict(enabled=True), inputs_to_half=['inputs'], gradient_clipping=.5, gradient_accumulation_steps=4)),
    (dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=1.),
     dict(bf16=dict(enabled=True), inputs_to_half=['inputs'], gradient_accumulation_steps=1))])
def test_deepspeed_gets_what_the_optimizer_wrapper_does_elsewhere(wrapper, strategy, has_deepspeed):
    cfg = choose('deepspeed', has_accelerator=True, optim_wrapper=dict(wrapper, optimizer=SGD))
    assert cfg.optim_wrapper == dict(type='DeepSpeedOptimWrapper', optimizer=SGD)
    assert cfg.strategy == dict(type='DeepSpeedStrategy', zero_optimization=dict(stage=2), **strategy)


@pytest.mark.parametrize(('call', 'message'), [
    (lambda: choose('ddp', launcher='none'), '--strategy ddp .*single .*torchrun .*train CONFIG --strategy ddp'),
    (lambda: choose('fsdp', launcher='none'), '--strategy fsdp .*single'),
    (lambda: choose(None, launcher='none', strategy=dict(type='FSDPStrategy')), '--strategy fsdp .*single'),
    (lambda: choose('deepspeed', has_accelerator=True), 'package deepspeed, .* not installed: pip install deepspeed')])
def test_mistakes(call, message, monkeypatch):
    monkeypatch.setattr(strategy_choice, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=message):
        call()


@pytest.mark.parametrize(('config', 'gpu', 'message'), [
    ({}, False, 'needs a GPU'),
    (dict(optim_wrapper=dict(clip_grad=dict(max_norm=1, norm_type=1))), True, 'clip_grad=dict.max_norm=....*norm_type'),
    (EMA, True, 'no averages, .* EMAHook: take it out')])
def test_mistakes_with_deepspeed(config, gpu, message, has_deepspeed):
    with pytest.raises(UserError, match=message):
        choose('deepspeed', has_accelerator=gpu, **dict(dict(optim_wrapper={}), **config))


@pytest.mark.parametrize('resume', ['auto', 'epoch_1.pth'])
def test_folders_of_deepspeed_are_not_resumed_by_name(resume):
    cfg = Config(dict(strategy=dict(type='DeepSpeedStrategy'), work_dir='none'))
    with pytest.raises(UserError, match='--resume .*DeepSpeed.*load_from=FOLDER'):
        set_resume(cfg, resume)
    set_resume(cfg, None)


def test_the_tool_says_so_in_one_line(tmp_path):
    (tmp_path / 'c.py').write_text('model, train_dataloader, train_cfg, optim_wrapper = ({"a": {}} for _ in range(4))')
    result = subprocess.run([sys.executable, ROOT / 'tools/train.py', 'c.py', '--strategy', 'fsdp'], cwd=tmp_path,
                            capture_output=True, text=True,
                            env={**os.environ, 'PYTHONWARNINGS': 'ignore', 'PYTHONPATH': str(ROOT)})
    assert (result.returncode, len(result.stderr.strip().splitlines())) == (2, 1), result.stderr
    assert 'train.py: error: --strategy fsdp' in result.stderr
