"""Images in an optimizer step: accumulation, the rate, and what is said of it."""
import pytest
from mmengine.config import Config

from convnext_mm.engine import step_size
from convnext_mm.engine.step_size import set_step_size
from convnext_mm.utils.errors import UserError


def config(**changes):
    return Config({**dict(
        launcher='none', train_dataloader=dict(batch_size=2), train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-4)), auto_scale_lr=dict(base_batch_size=16)), **changes})


@pytest.mark.parametrize(('effective', 'scale', 'launcher', 'processes', 'accumulation', 'rate', 'said'), [
    (None, False, 'none', 8, 1, 1e-4, 'takes 2 images a step, its recipe 16'),
    (None, True, 'none', 8, 1, 1.25e-5, '0.0001 x 2 / 16'),
    (16, False, 'none', 8, 8, 1e-4, '8 batches of 2'),
    (16, True, 'none', 8, 8, 1e-4, '0.0001 x 16 / 16'),
    (32, True, 'pytorch', 4, 4, 2e-4, '0.0001 x 32 / 16'),
    (16, False, 'pytorch', 8, 1, 1e-4, ''),
    (None, False, 'slurm', 8, 1, 1e-4, ''),
    (32, False, 'slurm', 4, 4, 1e-4, 'takes 32 images a step, its recipe 16')])
def test_accumulation_and_rate(monkeypatch, effective, scale, launcher, processes, accumulation, rate, said):
    for name in ('WORLD_SIZE', 'SLURM_NTASKS'):
        monkeypatch.setenv(name, str(processes))
    lines, cfg = [], config(launcher=launcher)
    monkeypatch.setattr(step_size, 'print_log', lambda line, **kwargs: lines.append(line))
    set_step_size(cfg, effective, scale)
    assert cfg.train_cfg == dict(type='convnext_mm.EpochBasedTrainLoop', max_epochs=2, accumulation=accumulation)
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == accumulation
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(rate)
    assert bool(said) == bool(lines) and said in ' '.join(lines)


@pytest.mark.parametrize(('effective', 'changes', 'message'), [
    (15, {}, '--effective-batch-size 15 must be a multiple of the 2 images'),
    (0, {}, '--effective-batch-size 0 must be'),
    (-4, {}, '--effective-batch-size -4 must be'),
    (16, dict(train_cfg=dict(type='MyLoop')), 'the config has MyLoop')])
def test_refused(effective, changes, message):
    with pytest.raises(UserError, match=message):
        set_step_size(config(**changes), effective, False)


@pytest.mark.parametrize(('loop', 'result'), [
    (dict(by_epoch=True, max_epochs=2), 'convnext_mm.EpochBasedTrainLoop'),
    (dict(by_epoch=False, max_iters=2), 'convnext_mm.IterBasedTrainLoop'),
    (dict(type='mmengine.IterBasedTrainLoop', max_iters=2), 'convnext_mm.IterBasedTrainLoop'),
    (dict(type='MyLoop'), 'MyLoop')])
def test_loops(loop, result):
    cfg = config(train_cfg=loop)
    set_step_size(cfg, None, False)
    assert cfg.train_cfg.type == result and 'by_epoch' not in cfg.train_cfg


def test_own_accumulation_counts():
    cfg = config(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-4), accumulative_counts=8))
    set_step_size(cfg, None, True)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-4)
    assert cfg.train_cfg.accumulation == 1 and cfg.optim_wrapper.accumulative_counts == 8


@pytest.mark.parametrize(('effective', 'accumulation'), [(None, 8), (16, 8), (4, 2), (2, 1)])
def test_the_config_that_a_run_leaves_takes_the_same_steps(effective, accumulation):
    """With it, a step that was not finite is repeated; what the command line says goes before."""
    cfg = config()
    set_step_size(cfg, 16, False)
    set_step_size(cfg, effective, False)
    assert cfg.train_cfg.accumulation == cfg.optim_wrapper.accumulative_counts == accumulation
