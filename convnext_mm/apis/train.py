"""Train a detector, a segmentor or a classifier."""
from argparse import Namespace

from convnext_mm.apis.config import load_config
from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.datasets.preflight import check_data, warn
from convnext_mm.engine.hooks.interruption import interruptible
from convnext_mm.engine.hooks.schedule_limits import ScheduleLimitHook
from convnext_mm.engine.one_cycle import end_in_config
from convnext_mm.engine.resume import set_resume
from convnext_mm.engine.run_status import begin_status, update_status
from convnext_mm.engine.runner.build import build_runner, check_optimizers
from convnext_mm.engine.settings import (
    fit_to_device,
    fit_workers,
    has_accelerator,
    set_amp,
    set_deterministic,
    use_whole_checkpoints,
)
from convnext_mm.engine.sole_training import sole_training
from convnext_mm.engine.step_size import set_step_size
from convnext_mm.engine.strategy_choice import fit_to_strategy
from convnext_mm.engine.work_dir_lock import WorkDirLost
from convnext_mm.evaluation.tested_hook import TestedImagesHook
from convnext_mm.models.build import check_backbone
from convnext_mm.utils.building import mistakes_named
from convnext_mm.utils.errors import RunInterrupted


def main(args: Namespace) -> None:
    """Train by the arguments of `tools/train.py`."""
    cfg = load_config(args, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    trust_pickles(args.trust_checkpoint)
    # Resuming looks for a checkpoint, which another training may be about to write: make sure that there is none first.
    with sole_training(cfg.work_dir, cfg.launcher) as hooks:
        _apply_arguments(cfg, args)
        check_backbone(cfg)
        check_optimizers(cfg)
        told = check_data(cfg, ('train', 'val'))
        check_agreement(cfg, ('train', 'val'))
        fit_workers(cfg)
        fit_to_device(cfg)
        runner = build_runner(cfg, args.trust_checkpoint)
        warn(told, runner.logger)
        tested = TestedImagesHook()
        for hook in (*hooks, ScheduleLimitHook(), tested):
            runner.register_hook(hook)
        with tested.naming_images():
            _train(runner, cfg.work_dir)


def _apply_arguments(cfg, args):
    """Change the config as the arguments ask."""
    set_resume(cfg, args.resume, args.resume_with)
    if args.deterministic:
        set_deterministic(cfg)
    if args.amp:
        set_amp(cfg)
    set_step_size(cfg, args.effective_batch_size, args.auto_scale_lr)
    fit_to_strategy(cfg, args.strategy, has_accelerator())
    use_whole_checkpoints(cfg)
    end_in_config(cfg)


def _train(runner, work_dir):
    """Train, and write into the status file how the run ends."""
    begin_status(work_dir)
    try:
        with interruptible(work_dir), mistakes_named():
            runner.train()
    except (RunInterrupted, WorkDirLost):
        # The status of an interruption is written where it is raised; a lost work dir has that of another run.
        raise
    except BaseException as error:
        update_status(work_dir, state='failed', reason=f'{type(error).__name__}: {error}',
                      exit_code=getattr(error, 'exit_code', 1))
        raise
    update_status(work_dir, state='finished')
