"""The parameter groups and schedules of a run beside those in a checkpoint, and how the config's take their place.

A run has one optimizer, or several with names (mmengine's OptimWrapperDict); so everything here goes by names, and the
name of a single optimizer is ''.
"""
import copy
import warnings
from collections.abc import Iterator
from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop

from convnext_mm.utils.errors import UserError


def pairs(runner, checkpoint: dict) -> Iterator[tuple[str, Any, Any, Any, Any]]:
    """Yield (name, wrapper, its state in the file, schedulers, their states in the file) of each optimizer."""
    several = isinstance(runner.optim_wrapper, OptimWrapperDict)
    states, schedulers = checkpoint.get('optimizer') or {}, runner.param_schedulers or ({} if several else [])
    schedules = checkpoint.get('param_schedulers') or type(schedulers)()
    if not several:
        yield '', runner.optim_wrapper, states, schedulers, schedules
        return
    for name, wrapper in runner.optim_wrapper.items():
        own = schedulers.get(name, []) if isinstance(schedulers, dict) else schedulers
        yield name, wrapper, states.get(name, {}), own, schedules.get(name, []) if isinstance(schedules, dict) else []


def check_groups(runner, checkpoint: dict, file: str) -> None:
    """Raise a ``UserError`` where the groups of the file are not those of the config."""
    for name, wrapper, state, _, _ in pairs(runner, checkpoint):
        if not state:
            continue
        stored = [len(group['params']) for group in state['param_groups']]
        present = [len(group['params']) for group in wrapper.optimizer.param_groups]
        if stored != present:
            raise UserError(
                f'{file} has {sum(stored)} parameters in {len(stored)} groups{name and f" of {name}"}, the optimizer '
                f'of the config {sum(present)} in {len(present)}: frozen stages, layer decay or the model are others. '
                'Resume with the settings of that run, or start a new run from its weights: load_from without --resume')


def take_config(runner, checkpoint: dict, drawn: int | None) -> None:
    """Write into a loaded checkpoint the rates and schedules that a fresh run of the config has at its iteration.

    The fresh schedulers are stepped once for each iteration and each epoch that is done, in the order of a run:
    schedules are recursive, and only so are all values the same bits.

    Args:
        runner (Runner): With a fresh optimizer and fresh schedulers.
        checkpoint (dict): Gets the values; the moments of its optimizer stay.
        drawn (int, optional): Samples drawn in the unfinished epoch, None where the checkpoint does not say.

    Raises:
        UserError: The epochs of the file have another length than those of the config.
    """
    steps, epochs, length = _progress(runner.train_loop, checkpoint['meta'], drawn)
    several = isinstance(runner.optim_wrapper, OptimWrapperDict)
    kept = {}
    for name, wrapper, state, schedulers, _ in pairs(runner, checkpoint):
        _replay(schedulers, steps, epochs, length)
        if state:
            for stored, group in zip(state['param_groups'], wrapper.optimizer.param_groups):
                parameters = stored['params']
                stored.clear()
                stored.update(copy.deepcopy({key: value for key, value in group.items() if key != 'params'}),
                              params=parameters)
            state.pop('base_param_settings', None)
            if getattr(wrapper, 'base_param_settings', None) is not None:
                state['base_param_settings'] = wrapper.base_param_settings
        kept[name] = [scheduler.state_dict() for scheduler in schedulers]
    checkpoint['param_schedulers'] = kept if several else kept['']


def _progress(loop, meta, drawn):
    """Return the iterations and epochs done, and the iterations of an epoch (0 in a loop without epochs)."""
    steps, epochs = meta['iter'], meta['epoch']
    if not isinstance(loop, EpochBasedTrainLoop):
        return steps, 0, 0
    length = len(loop.dataloader)
    # Only this project's loops resume in the middle of an epoch.
    place = (drawn or 0) // getattr(loop, 'samples_per_step', 1)
    if steps != epochs * length + min(place, length):
        raise UserError(
            f"--resume-with config: an epoch of the config has {length} iterations, but the checkpoint's run did "
            f'{steps} in {epochs} epochs, so there is no place at which to enter the schedules: take the batch size '
            'and the data of that run, or start a new run from its weights: load_from without --resume')
    return steps, epochs, length


def _replay(schedulers, steps, epochs, length):
    with warnings.catch_warnings():
        # mmengine warns of schedulers that are stepped before the optimizer.
        warnings.simplefilter('ignore')
        for step in range(1, steps + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            if length and step % length == 0 and step // length <= epochs:
                for scheduler in schedulers:
                    if scheduler.by_epoch:
                        scheduler.step()
