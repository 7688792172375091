"""Tell in one table where the config of a resumed run and its checkpoint differ, and which value holds."""
from collections.abc import Mapping

from convnext_mm.engine.param_groups import pairs
from convnext_mm.engine.stored_config import ABSENT, differences, read_present, read_stored
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.text import format_table, shorten

#: Settings of data loaders that change nothing about what is trained.
_LOADER = {'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'timeout', 'multiprocessing_context'}
#: Settings of the optimizer that are compared by its groups.
_GROUPED = {'lr', 'weight_decay'}
#: Attributes of schedulers that change in the course of a run, or follow from the rates.
_COURSE = {'last_step', 'base_values', 'verbose', 'best', 'num_bad_steps', 'cooldown_counter'}
_ROWS, _WIDTH = 30, 44


def find_differences(runner, checkpoint: dict, winner: str) -> list[tuple[str, str, str, str]]:
    """Return rows (setting, checkpoint's value, config's value, which holds).

    Args:
        runner (Runner): With a fresh optimizer and fresh schedulers of the config.
        checkpoint (dict): As loaded.
        winner (str): ``checkpoint`` or ``config``: whose rates and schedules hold.
    """
    try:
        stored = read_stored(checkpoint['meta'].get('cfg') or '')
    except SyntaxError:
        stored = {}
    present = read_present(runner.cfg) if stored else {}
    rows = [(*row, winner) for row in (*_schedules(runner, checkpoint, stored, present), *_rates(runner, checkpoint),
                                       *_optimizer(stored, present))]
    rows += [(*row, 'config') for row in (*_length_and_data(stored, present), *_classes(runner, checkpoint))]
    return [(name, _cell(old), _cell(new), holds) for name, old, new, holds in rows]


def format_differences(rows: list[tuple[str, str, str, str]]) -> str:
    """Return the rows as a table, cut after 30."""
    table = format_table(('setting', 'checkpoint', 'config', 'holds'), rows[:_ROWS], left=4)
    return table + (f'\nand {len(rows) - _ROWS} more' if len(rows) > _ROWS else '')


def schedule_kinds(runner, checkpoint: dict) -> tuple[list[str], list[str]] | None:
    """Return the types of the file's schedulers and of the config's, or None where they are the same, or unknown."""
    stored, present = [], []
    for _, _, _, schedulers, states in pairs(runner, checkpoint):
        present += [type(scheduler).__name__ for scheduler in schedulers]
        stored += ['schedule'] * len(states)
    try:
        parts = read_stored(checkpoint['meta'].get('cfg') or '').get('param_scheduler') or []
    except SyntaxError:
        parts = []
    kinds = [type_name(part) for part in (parts if isinstance(parts, list) else [parts])]
    if len(kinds) == len(stored) and all(kinds):
        return None if kinds == present else (kinds, present)
    return None if len(stored) == len(present) else (stored, present)


def _schedules(runner, checkpoint, stored, present):
    kinds = schedule_kinds(runner, checkpoint)
    if kinds is not None:
        yield 'schedules', *map(', '.join, kinds)
        return
    for name, _, _, schedulers, states in pairs(runner, checkpoint):
        for number, (scheduler, state) in enumerate(zip(schedulers, states), 1):
            mine = scheduler.state_dict()
            for key in sorted(mine.keys() & state.keys() - _COURSE):
                old, new = _plain(state[key]), _plain(mine[key])
                if not key.startswith('_') and None not in (old, new) and old != new:
                    which = ' '.join(filter(None, ('schedule', name, str(number))))
                    yield f'{which}, {type(scheduler).__name__}.{key}', old, new


def _plain(value):
    """Return a scheduler's attribute in comparable form, None where it is not a plain one; milestones are a Counter."""
    if isinstance(value, Mapping):
        return sorted(value)
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(item, (int, float)) for item in value):
        return list(value)
    return None


def _rates(runner, checkpoint):
    for name, wrapper, state, _, _ in pairs(runner, checkpoint):
        if not state:
            continue
        mine, stored = wrapper.optimizer.param_groups, state['param_groups']
        base = getattr(wrapper, 'base_param_settings', None) or {}, state.get('base_param_settings') or {}
        for key, title in (('lr', 'learning rate'), ('weight_decay', 'weight decay')):
            title = f'{title} of {name}' if name else title
            differing = [(old, new) for old, new in zip(
                (_start(group, key) for group in stored), (_start(group, key) for group in mine)) if old != new]
            old, new = _start(base[1], key), _start(base[0], key)
            if None not in (old, new) and old != new:
                yield title, old, new
            elif differing:
                yield title + (f', {len(differing)} of {len(mine)} groups' if len(mine) > 1 else ''), *differing[0]


def _start(group, key):
    """Return the value from which the schedules of a group start."""
    value = group.get(f'initial_{key}', group.get(key))
    return None if value is None else float(value)


def _optimizer(stored, present):
    """Yield other settings by which groups are made."""
    stored, present = ({key: value for key, value in (cfg.get('optim_wrapper') or {}).items()
                        if key in ('optimizer', 'paramwise_cfg')} for cfg in (stored, present))
    for path, old, new in differences(stored, present, 'optim_wrapper'):
        if path.rpartition('.')[2] not in {*_GROUPED, 'type'}:
            yield path, old, new


def _length_and_data(stored, present):
    """Yield settings that always come from the config."""
    for key in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'model'):
        old, new = stored.get(key) or {}, present.get(key) or {}
        if key == 'train_cfg':
            left_out = {'type', 'by_epoch'}
        elif key == 'optim_wrapper':
            left_out = {'constructor', 'optimizer', 'paramwise_cfg'}
        else:
            left_out = _LOADER
        if isinstance(old, dict) and isinstance(new, dict):
            old, new = ({name: value for name, value in part.items() if name not in left_out} for part in (old, new))
        for row in differences(old, new, key):
            if not row[0].endswith(('.init_cfg', '.checkpoint', '.metainfo')) and '.metainfo.' not in row[0]:
                yield row
    kinds = [type_name((cfg.get('optim_wrapper') or {}).get('optimizer')) for cfg in (stored, present)]
    if kinds[0] != kinds[1]:
        yield 'optim_wrapper.optimizer.type', *kinds


def _classes(runner, checkpoint):
    old = (checkpoint['meta'].get('dataset_meta') or {}).get('classes')
    new = (getattr(runner.train_dataloader.dataset, 'metainfo', None) or {}).get('classes')
    if old and new and list(old) != list(new):
        yield 'classes', list(old), list(new)


def _cell(value):
    """Return a value as text of a table, the types of a list of dicts."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        text = shorten([type_name(item) or '?' for item in value], 3)
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        text = shorten(value, 4)
    elif isinstance(value, dict):
        text = type_name(value) or ABSENT.join(map(str, value)) or '{}'
    else:
        text = str(value)
    return text if len(text) <= _WIDTH else f'{text[:_WIDTH - 3]}...'
