"""Train a detector or a segmentor."""
from convnext_mm.apis.config import load_config
from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.datasets.preflight import check_data
from convnext_mm.engine.hooks.interruption import interruptible
from convnext_mm.engine.resume import set_resume
from convnext_mm.engine.run_status import begin_status, update_status
from convnext_mm.engine.runner.build import build_runner
from convnext_mm.engine.settings import (
    fit_to_device,
    has_accelerator,
    set_amp,
    set_deterministic,
    use_whole_checkpoints,
)
from convnext_mm.engine.step_size import set_step_size
from convnext_mm.engine.strategy_choice import fit_to_strategy
from convnext_mm.models.build import check_backbone
from convnext_mm.utils.errors import RunInterrupted
from convnext_mm.utils.files import check_work_dir


def main(args):
    """Train by a command line (see `tools/train.py`)."""
    cfg = load_config(args, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    trust_pickles(args.trust_checkpoint)
    set_resume(cfg, args.resume)
    if args.deterministic:
        set_deterministic(cfg)
    if args.amp:
        set_amp(cfg)
    set_step_size(cfg, args.effective_batch_size, args.auto_scale_lr)
    fit_to_strategy(cfg, args.strategy, has_accelerator())
    use_whole_checkpoints(cfg)
    check_backbone(cfg)
    check_data(cfg, ('train', 'val'))
    check_work_dir(cfg.work_dir)
    fit_to_device(cfg)
    runner = build_runner(cfg, args.trust_checkpoint)
    begin_status(cfg.work_dir)
    try:
        with interruptible(cfg.work_dir):
            runner.train()
    except RunInterrupted:
        raise
    except BaseException as error:
        update_status(cfg.work_dir, state='failed', reason=f'{type(error).__name__}: {error}',
                      exit_code=getattr(error, 'exit_code', 1))
        raise
    update_status(cfg.work_dir, state='finished')
