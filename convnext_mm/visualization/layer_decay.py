"""Show what layer decay makes of a config: a table of its groups, and a picture of the rates over depth.

Neither data nor weights are read, and the model lives on torch's meta device wherever its parts allow that.
"""
import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from mmengine.config import Config
from torch import nn

from convnext_mm.engine.optimizers.layer_decay import (
    DECAY_TYPES,
    LayerDecayOptimWrapperConstructor,
    derive_num_layers,
    find_backbones,
    get_layer_id,
)
from convnext_mm.engine.schedule_limits import describe_limit, find_limits, limited_rate
from convnext_mm.evaluation.cost import build_on_meta
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import format_table
from convnext_mm.visualization.figures import save_figure

CONSTRUCTOR = LayerDecayOptimWrapperConstructor.__name__
_UNIT = re.compile(r'(?:downsample_layers\.\d+|stages\.\d+\.\d+|stem|blocks\.\d+|norm\d+)(?=\.)')


def show_config(cfg: Config, file: str | Path) -> str:
    """Draw the layer decay of a config into the PNG ``file``, and return the table of its groups.

    Raises:
        UserError: The config has no model or another constructor, its settings do not fit, or ``file`` cannot be
            written.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    name = type_name(dict(type=wrapper.get('constructor')))
    if name != CONSTRUCTOR or not cfg.get('model'):
        found = f'optim_wrapper.constructor={name}' if name else 'no optim_wrapper.constructor'
        raise UserError(f'{cfg.filename} has {found if cfg.get("model") else "no model"}, so no layer decay: give a '
                        f"config of a model with optim_wrapper.constructor='convnext_mm.{CONSTRUCTOR}' and "
                        'optim_wrapper.paramwise_cfg.decay_rate')
    constructor = LayerDecayOptimWrapperConstructor(wrapper, wrapper.get('paramwise_cfg'))
    model = build_on_meta(cfg)
    groups = constructor.group_parameters(model)
    draw_config(cfg, model, groups, file)
    return format_config(cfg, model, groups)


def name_modules(names: Iterable[str], backbones: Iterable[str]) -> str:
    """Return the modules that hold the parameters ``names``, in short: ``stages.2.0-2, downsample_layers.2, neck``.

    Args:
        names (Iterable[str]): Names of parameters of the model.
        backbones (Iterable[str]): Prefixes of its backbones (:func:`~.layer_decay.find_backbones`).
    """
    found: dict[str, set] = {}
    for name in names:
        prefix = next((p for p in backbones if name.startswith(p)), None)
        unit = _UNIT.match(name[len(prefix):]) if prefix is not None else None
        # Of a backbone its blocks, of anything else the part of the model.
        module = f'{prefix}{unit.group()}' if unit else name.split('.')[0]
        head = module.rstrip('0123456789')
        found.setdefault(head, set()).update([int(module[len(head):])] if len(head) < len(module) else [])
    return ', '.join(head + _ranges(sorted(numbers)) for head, numbers in found.items())


def _ranges(numbers):
    """Return ``0-2,5`` for 0, 1, 2, 5."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ','.join(f'{run[0]}-{run[-1]}' if len(run) > 1 else str(run[0]) for run in runs)


def format_config(cfg: Config, model: nn.Module, groups: list[dict]) -> str:
    """Return the table of a config's groups: layer id, modules, parameters, scale, rate and weight decay."""
    backbones = find_backbones(model)
    settings = cfg.optim_wrapper.paramwise_cfg
    total = sum(parameter.numel() for group in groups for parameter in group['params'])
    table = format_table(('layer', 'modules', 'parameters', 'scale', 'rate', 'weight decay'), (
        (g['layer_id'], name_modules(g['param_names'], backbones), f'{sum(p.numel() for p in g["params"]):,}',
         f'{g["lr_scale"]:.4g}', f'{g["lr"]:.4g}', f'{g["weight_decay"]:g}') for g in groups), left=2)
    return (f'layer decay {settings.decay_rate:g}, {settings.get("decay_type", DECAY_TYPES[0])}; base rate '
            f'{cfg.optim_wrapper.optimizer.lr:g}; {total:,} parameters in {len(groups)} groups\n{table}'
            + ''.join(f'\n{told}' for told in _lifted(cfg, groups).values()))


def _lifted(cfg, groups):
    """Return {limit: what it does, in words} of the schedules that lift the rates of some groups."""
    rates = [group['lr'] for group in groups]
    limits = find_limits(cfg.get('param_scheduler'))
    return {limit: told for limit in limits if (told := describe_limit(limit, rates))}


def units_by_depth(depths: Sequence[int]) -> list[str]:
    """Return prefixes of parameter names of a ConvNeXt's stem, downsampling layers and blocks, in the input's order.

    Of an isotropic one, which has one entry in ``depths``, the stem and the blocks.
    """
    if len(depths) == 1:
        return ['stem.', *(f'blocks.{block}.' for block in range(depths[0]))]
    return [unit for stage, depth in enumerate(depths)
            for unit in (f'downsample_layers.{stage}.', *(f'stages.{stage}.{block}.' for block in range(depth)))]


def rates_by_depth(groups: list[dict], prefix: str, depths: Sequence[int]) -> list[tuple[int | None, float]]:
    """Return the layer id and rate of each unit of a backbone, then of the heads, as the optimizer has them.

    Args:
        groups (list[dict]): Of ``LayerDecayOptimWrapperConstructor.group_parameters``.
        prefix (str): The backbone's.
        depths (Sequence[int]): Blocks of its stages.

    Returns:
        list[tuple[int | None, float]]: Where ``custom_keys`` part a unit, its highest rate; of a frozen unit None and
        NaN.
    """
    steps = []
    for unit in units_by_depth(depths):
        found = [(group['layer_id'], group['lr']) for group in groups
                 if any(name.startswith(prefix + unit) for name in group['param_names'])]
        steps.append(max(found, key=lambda step: step[1], default=(None, float('nan'))))
    last = max(group['layer_id'] for group in groups)
    return [*steps, (last, max(group['lr'] for group in groups if group['layer_id'] == last))]


def scales_by_depth(depths: Sequence[int], decay_rate: float, decay_type: str) -> list[float]:
    """Return the factor on the base rate of each unit of a backbone, then of the heads, by a type of decay."""
    layers = derive_num_layers(depths)
    # A unit's first weight stands for all of it.
    ids = [*(get_layer_id(f'{unit}0.', layers, decay_type) for unit in units_by_depth(depths)), layers + 1]
    return [decay_rate ** (layers + 1 - layer) for layer in ids]


def draw_config(cfg: Config, model: nn.Module, groups: list[dict], file: str | Path) -> None:
    """Draw a config's rate over depth, and beside it both types of decay at its ``decay_rate``, into a PNG.

    Args:
        cfg (mmengine.Config): Using ``LayerDecayOptimWrapperConstructor``.
        model (nn.Module): Built from it; of several backbones the deepest is drawn.
        groups (list[dict]): Of its parameters.
        file (str | Path): Replaced as a whole or not at all.
    """
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    settings, base = cfg.optim_wrapper.paramwise_cfg, cfg.optim_wrapper.optimizer.lr
    own = settings.get('decay_type', DECAY_TYPES[0])
    prefix, depths = max(find_backbones(model).items(), key=lambda item: sum(item[1]))
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), sharey=True, layout='constrained')
    steps = rates_by_depth(groups, prefix, depths)
    _draw_steps(left, own, [rate for _, rate in steps])
    _label_layers(left, steps)
    for limit in _lifted(cfg, groups):
        _draw_limit(left, limit, [rate for _, rate in steps])
    for decay_type in DECAY_TYPES:
        _draw_steps(right, decay_type, [base * s for s in scales_by_depth(depths, settings.decay_rate, decay_type)])
    for axes in (left, right):
        _label_depth(axes, depths)
    left.set_title(f'{Path(cfg.filename).name}: rate of each layer id, {own} {settings.decay_rate:g}', loc='left')
    right.set_title(f'layer_wise against stage_wise at {settings.decay_rate:g}', loc='left')
    right.legend(frameon=False, loc='upper left')
    _label_rates(left, base)
    save_figure(figure, file, dpi=120)


def _label_rates(axes, base):
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    axes.set_ylabel(f'learning rate (base {base:g})')
    axes.set_yscale('log')
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f'{rate:.2g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=.12)


def _draw_steps(axes, decay_type, rates):
    first = decay_type == DECAY_TYPES[0]
    axes.step(range(len(rates)), rates, where='mid', lw=2, marker='o', ms=3.5, label=decay_type,
              color='#0b62a8' if first else '#c2410c', ls='-' if first else (0, (5, 2)))


def _draw_limit(axes, limit, rates):
    """Draw the rates to which a schedule leads those of layer decay."""
    places, lifted = range(len(rates)), [limited_rate(rate, limit) for rate in rates]
    axes.fill_between(places, rates, lifted, step='mid', color='#b91c1c', alpha=.12, lw=0)
    axes.step(places, lifted, where='mid', lw=1.5, ls=':', color='#b91c1c',
              label=f'what {limit.kind} with {limit.setting}={limit.value:g} makes of it')
    axes.legend(frameon=False, loc='best')


def _label_layers(axes, steps):
    """Write each layer id over the middle of its step."""
    start = 0
    for (layer, rate), run in groupby(steps):
        end = start + len(list(run)) - 1
        if layer is not None:
            axes.annotate(str(layer), ((start + end) / 2, rate), xytext=(0, 6), textcoords='offset points',
                          ha='center', fontsize=9)
        start = end + 1


def _label_depth(axes, depths):
    """Write the stages under the axis, each with the downsampling layer before it, and lines where they meet."""
    ticks, start = [(0, 'stem')], 0
    for stage, depth in enumerate(depths):
        ticks.append((start + (depth + 1) / 2, str(stage) if len(depths) > 1 else 'blocks'))
        if stage:
            axes.axvline(start - .5, color='.85', lw=1, zorder=0)
        start += depth + 1
    axes.axvline(start - .5, color='.85', lw=1, zorder=0)
    axes.set_xticks(*zip(*ticks, (start, 'heads')))
    axes.set_xlabel('stage; each dot is a downsampling layer or a block' if len(depths) > 1 else 'each dot is a block')
    axes.grid(axis='y', color='.92')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
