"""Schedules that lead all layers to one rate, whatever layer decay gives to each.

Source: mmengine ``optim/scheduler/param_scheduler.py``: ``eta_min`` of the cosine and polynomial schedules is a rate,
no share of the group's own, and ``eta_max`` of ``OneCycleLR`` takes the place of every group's rate.
"""
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from convnext_mm.utils.configs import type_name

#: Beginning of a type's name -> the setting that is one rate for all groups.
SETTINGS = {'CosineAnnealing': 'eta_min', 'CosineRestart': 'eta_min', 'Poly': 'eta_min', 'OneCycle': 'eta_max'}
CEILING = 'eta_max'


class Limit(NamedTuple):
    """One rate for all groups: the key of the schedule in the config, its type, the setting and its value."""

    key: str
    kind: str
    setting: str
    value: float


def find_limits(schedules: Any, key: str = 'param_scheduler') -> list[Limit]:
    """Return the rates that the schedules of a config set for all groups alike.

    Args:
        schedules (dict | list | None): The config's ``param_scheduler``, of several optimizers too.
        key (str): Its key. Defaults to ``param_scheduler``.
    """
    if isinstance(schedules, Mapping) and 'type' not in schedules:
        return [limit for name, part in schedules.items() for limit in find_limits(part, f'{key}.{name}')]
    if not isinstance(schedules, Mapping):
        return [limit for i, part in enumerate(schedules or ()) for limit in find_limits(part, f'{key}.{i}')]
    return list(_limits(type_name(schedules), schedules, key))


def built_limits(schedulers: Sequence, keys: Sequence[str]) -> list[Limit]:
    """Return the rates that built schedulers of one optimizer, of these config keys, set for all groups alike."""
    return [limit for scheduler, key in zip(schedulers, keys)
            for limit in _limits(type(scheduler).__name__, vars(scheduler), key)]


def _limits(kind: str, settings: Mapping, key: str) -> Iterator[Limit]:
    setting = next((setting for name, setting in SETTINGS.items() if kind.startswith(name)), '')
    value = settings.get(setting)
    # A list has a rate for each group.
    if isinstance(value, (int, float)) and (kind.endswith('LR') or settings.get('param_name') == 'lr'):
        yield Limit(key, kind, setting, value)


def limited_rate(rate: float, limit: Limit) -> float:
    """Return the rate that a group comes to which starts at ``rate``, where that is higher."""
    return limit.value if limit.setting == CEILING else max(rate, limit.value)


def describe_limit(limit: Limit, rates: Sequence[float]) -> str:
    """Return in words what a limit does to groups that start at ``rates``; an empty text where it lifts none."""
    lowest, highest = min(rates, default=0), max(rates, default=0)
    what = f'{limit.key} ({limit.kind}) has {limit.setting}={limit.value:g}'
    if limit.setting == CEILING:
        if lowest == highest:
            return ''
        return (f'{what} for every layer, so that the rates of layer decay, {lowest:.3g} to {highest:.3g}, do not '
                f'hold: use CosineAnnealingLR behind LinearLR, or give {limit.key}.{CEILING} as a list of one rate for '
                'each group')
    below = sum(rate < limit.value for rate in rates)
    if not below:
        return ''
    mend = f'set {limit.key}.eta_min to at most {lowest:.3g}'
    if not limit.kind.startswith('Poly'):
        mend = f"set {limit.key}.eta_min=None {limit.key}.eta_min_ratio={limit.value / highest:.3g}, a share of each " \
               f"group's rate, or {limit.key}.eta_min to at most {lowest:.3g}"
    return (f'{what}, but {below} of {len(rates)} groups of parameters start below it, the lowest at {lowest:.3g}: '
            f'their rates rise to it: {mend}')
