"""Set how many images an optimizer step takes, whatever the number of processes."""
import os

from mmengine.logging import print_log

from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError

#: Launcher -> environment variable with the number of processes. It is set before they are connected.
_PROCESSES = {'none': '', 'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}


def set_step_size(cfg, effective: int | None, scale_rate: bool) -> None:
    """Set how many batches an optimizer step takes, and scale the learning rate if asked to.

    Args:
        cfg (Config): With ``launcher`` set.
        effective (int, optional): Images in an optimizer step; None leaves the config's accumulation as it is.
        scale_rate (bool): Scale the rate from ``auto_scale_lr.base_batch_size`` to the images in a step.

    Raises:
        UserError: The number of images or the loop does not allow it, or the config has no ``base_batch_size``.
    """
    batch, processes = cfg.train_dataloader.get('batch_size', 1), int(os.environ.get(_PROCESSES[cfg.launcher], 1))
    accumulation = cfg.train_cfg.get('accumulation', 1)
    if effective is not None:
        accumulation = _accumulation(effective, batch, processes)
        cfg.optim_wrapper.accumulative_counts = accumulation
    _use_step_loop(cfg, accumulation)
    images = batch * processes * cfg.optim_wrapper.get('accumulative_counts', 1)
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if scale_rate:
        _scale_rate(cfg.optim_wrapper.optimizer, images, base)
    elif base not in (None, images):
        print_log(f'This run takes {images} images a step, its recipe {base}: --effective-batch-size {base} goes there '
                  'by accumulation, --auto-scale-lr scales the learning rate instead', logger='current')


def _accumulation(effective, batch, processes):
    """Return how many batches make up a step of ``effective`` images."""
    parallel = batch * processes
    accumulation, rest = divmod(effective, parallel)
    if rest or accumulation < 1:
        raise UserError(
            f'--effective-batch-size {effective} must be a multiple of the {parallel} images that are processed at '
            f'once ({processes} processes of train_dataloader.batch_size={batch}); choose another one, or another '
            'batch_size')
    if accumulation > 1:
        print_log(f'--effective-batch-size {effective}: {accumulation} batches of {parallel} in an optimizer step, '
                  'which is what an iteration is here; BatchNorm still sees single batches', logger='current')
    return accumulation


def _scale_rate(optimizer, images, base):
    """Scale the learning rate from ``base`` images in a step to ``images``."""
    if base is None:
        raise UserError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config, which has none')
    rate = optimizer.lr * images / base
    print_log(f'--auto-scale-lr: learning rate {optimizer.lr:g} x {images} / {base} images a step = {rate:g}',
              logger='current')
    optimizer.lr = rate


def _use_step_loop(cfg, accumulation):
    """Train by this project's loops (``convnext_mm.engine.runner.loops``) instead of mmengine's."""
    loop = cfg.train_cfg
    if 'by_epoch' in loop:
        loop.type = 'EpochBasedTrainLoop' if loop.pop('by_epoch') else 'IterBasedTrainLoop'
    if type_name(loop) in ('EpochBasedTrainLoop', 'IterBasedTrainLoop'):
        loop.update(type=f'convnext_mm.{type_name(loop)}', accumulation=accumulation)
    elif accumulation > 1:
        raise UserError(f'--effective-batch-size works with EpochBasedTrainLoop and IterBasedTrainLoop, the config has '
                        f'{type_name(loop)}')
