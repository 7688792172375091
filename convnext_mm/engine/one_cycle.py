"""Let runs with OneCycle schedules be resumed, also after the schedule has ended.

mmengine steps such a schedule on, and fails one step after its last. With an end, the rate stays at the last one, as
after mmengine's other schedules. mmengine also stores one of its functions, so that a checkpoint is no longer plain
data, which alone is read without trust.
"""
from collections.abc import MutableMapping
from typing import Any

from convnext_mm.engine.param_groups import pairs
from convnext_mm.utils.configs import type_name, walk


def end_in_config(cfg: Any) -> None:
    """Set ``end`` in the OneCycle schedules of a config that have ``total_steps``."""
    for _, part in walk(cfg.get('param_scheduler') or []):
        if type_name(part).startswith('OneCycle'):
            _end(part)


def end_in_checkpoint(runner: Any, checkpoint: dict) -> None:
    """Set ``end`` in the states of OneCycle schedules in a loaded checkpoint."""
    for *_, states in pairs(runner, checkpoint):
        for state in states:
            _end(state)


def drop_functions(checkpoint: dict) -> None:
    """Take the functions out of the states of schedules in a checkpoint that is about to be written.

    A scheduler that is resumed has its own from its config.
    """
    schedules = checkpoint.get('param_schedulers') or []
    for states in schedules.values() if isinstance(schedules, dict) else [schedules]:
        for state in states:
            for name in [name for name, value in state.items() if callable(value)]:
                del state[name]


def _end(schedule: MutableMapping) -> None:
    length = schedule.get('total_steps')
    if isinstance(length, int):
        last = schedule.get('begin', 0) + length
        schedule['end'] = min(schedule.get('end', last), last)
