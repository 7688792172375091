"""The configs of classifiers against the published recipes: every field, every learning rate, every group."""
import math
import re
from functools import cache

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

from convnext_mm.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor
from convnext_mm.evaluation.cost import build_on_meta, count_config
from convnext_mm.published.archs import ARCHS
from convnext_mm.published.imagenet import imagenet_recipe, published_imagenet
from convnext_mm.published.paper import published
from convnext_mm.published.weights import weights
from tests.helpers.paths import ROOT
from tests.helpers.recipes import FIELDS, std

for _toolbox in ('mmpretrain', 'timm'):
    pytest.importorskip(_toolbox, reason=f'the configs need {_toolbox}')

LEAVES = [leaf['config'] for leaf in published_imagenet()['configs']]
FINE_TUNED = [leaf for leaf in LEAVES if imagenet_recipe(leaf)['layer_decay']]
#: Not in a config as such; ``arch`` and ``init_std`` are compared below.
ASIDE = {'config', 'recipe', 'top1', 'arch', 'init_std'}


@cache
def load(config):
    return Config.fromfile(ROOT / 'configs' / config)


@cache
def build(config):
    return build_on_meta(load(config))


@pytest.mark.parametrize('config', LEAVES)
def test_every_published_field(config):
    row, cfg = imagenet_recipe(config), load(config)
    assert set(row) == set(FIELDS) | ASIDE
    for field, value in FIELDS.items():
        number = isinstance(row[field], float) and not isinstance(row[field], bool)
        assert value(cfg) == (pytest.approx(row[field], rel=1e-9) if number else row[field]), field
    assert cfg.model.backbone.arch == row['arch'].removeprefix('isotropic_')
    assert std(cfg) == row['init_std'] * row['head_init_scale']
    assert len((ROOT / 'configs' / config).read_text().splitlines()) <= 20


@pytest.mark.parametrize('config', LEAVES)
def test_models_fit_together(config):
    cfg, row = load(config), imagenet_recipe(config)
    with torch.device('meta'), torch.no_grad():
        logits = build(config).eval()(torch.empty(2, 3, 64, 64))
    assert logits.shape == (2, row['classes']) and cfg.model.data_preprocessor.num_classes == row['classes']
    if row['start']:
        start = weights()[row['start']]
        assert start.arch == row['arch'] and start.resolution == (224, 224)


@pytest.mark.parametrize('config', [leaf for leaf in LEAVES if imagenet_recipe(leaf)['classes'] == 1000])
def test_costs_are_the_published_ones(config):
    row = imagenet_recipe(config)
    known = next(known for known in published_imagenet()['isotropic'] + published()['imagenet']
                 if (known['arch'], known.get('resolution', 224)) == (row['arch'], row['resolution']))
    cost = count_config(load(config))
    assert cost['shape'] == (row['resolution'],) * 2
    assert cost['parts']['head'] == 1000 * load(config).model.head.in_channels
    assert f'{cost["parameters"] / 1e6:.0f}' == str(known['params_m'])
    # The paper prints 45.0 of B at 384 from ImageNet-1K.
    flops = 45.1 if known['flops_g'] == 45 else known['flops_g']
    assert f'{cost["macs"] / 1e9:.1f}' == f'{flops:.1f}'


def test_every_config_is_a_published_one():
    found = [f'{family}/{path.name}' for family in ('imagenet', 'isotropic')
             for path in (ROOT / 'configs' / family).glob('*.py') if path.name[0] != '_']
    assert sorted(found) == sorted(LEAVES)


def official_rates(row, epoch):
    """The rate of a group with scale 1 at every step, for epochs of so many steps: `cosine_scheduler` of utils.py."""
    warm_up, total = row['warmup_epochs'] * epoch, row['epochs'] * epoch
    cosine = [row['min_lr'] + .5 * (row['lr'] - row['min_lr']) * (1 + math.cos(math.pi * i / (total - warm_up)))
              for i in range(total - warm_up)]
    return [*(np.linspace(0, row['lr'], warm_up) if warm_up else ()), *cosine]


def rates(cfg, wrapper, epoch):
    """Yield the rates of all groups at every step."""
    schedulers = [PARAM_SCHEDULERS.build(dict(s, epoch_length=epoch), default_args=dict(optimizer=wrapper.optimizer))
                  for s in cfg.param_scheduler]
    for _ in range(cfg.train_cfg.max_epochs * epoch):
        yield [group['lr'] for group in wrapper.optimizer.param_groups]
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
@pytest.mark.parametrize(('config', 'epoch'), [
    (LEAVES[0], 1_281_167 // 4096), ('imagenet/convnext_t_in22k.py', 50), ('imagenet/convnext_b_in1k_384.py', 50),
    ('imagenet/convnext_s_in22k_in1k.py', 50), ('isotropic/convnext_iso_l_in1k.py', 50),
    ('imagenet/convnext_t_in22k_in1k_384.py', 50)])
def test_rates(config, epoch):
    cfg, row = load(config), imagenet_recipe(config)
    if row['layer_decay']:
        groups = LayerDecayOptimWrapperConstructor(cfg.optim_wrapper, cfg.optim_wrapper.paramwise_cfg).group_parameters(
            build(config))
        optimizer = torch.optim.AdamW([dict(group, params=[torch.nn.Parameter(torch.ones(1))]) for group in groups])
        wrapper = type('Wrapper', (), dict(optimizer=optimizer))
        scales = [group['lr_scale'] for group in groups]
    else:
        wrapper = build_optim_wrapper(torch.nn.Linear(2, 2), cfg.optim_wrapper)
        scales = [1, 1]
    expected, own = official_rates(row, epoch), list(rates(cfg, wrapper, epoch))
    warm_up = row['warmup_epochs'] * epoch
    for step in {0, 1, warm_up // 2, warm_up - 1, warm_up, warm_up + 1, len(own) // 2, len(own) - 1} - {-1}:
        assert own[step] == pytest.approx([expected[step] * scale for scale in scales], rel=1e-6, abs=5e-9), step
    # Every group ends just above its floor.
    assert own[-1] == pytest.approx([row['min_lr'] * scale for scale in scales], rel=.01)


def official_group(name):
    """Layer id of a parameter by its official name, and whether weights decay: `get_parameter_groups` of
    optim_factory.py, for the models with 27 blocks in stage 2."""
    found = re.match(r'(downsample_layers|stages)\.(\d)\.(\d+)', name)
    if not found:
        return 13
    kind, stage, block = found[1], int(found[2]), int(found[3])
    if kind == 'downsample_layers':
        return (0, 2, 3, 12)[stage]
    return (1, 2, 3 + block // 3, 12)[stage]


@pytest.mark.parametrize('config', FINE_TUNED)
def test_groups_equal_the_official_ones(config):
    cfg, row, model = load(config), imagenet_recipe(config), build(config)
    groups = LayerDecayOptimWrapperConstructor(cfg.optim_wrapper, cfg.optim_wrapper.paramwise_cfg).group_parameters(
        model)
    shapes, seen = {name: parameter.ndim for name, parameter in model.named_parameters()}, []
    last = 13 if ARCHS[row['arch']].depths[2] == 27 else 7
    for group in groups:
        for name in group['param_names']:
            layer = official_group(name.removeprefix('backbone.'))
            # T has as many layers as in detection.
            layer = layer if last == 13 else {12: 6, 13: 7}.get(layer, layer)
            decays = shapes[name] > 1 and not name.endswith('.bias')
            assert group['layer_id'] == layer, name
            assert group['lr_scale'] == pytest.approx(row['layer_decay'] ** (last - layer)), name
            assert group['weight_decay'] == (row['weight_decay'] if decays else 0), name
            seen.append(name)
        if group['layer_id'] == last:
            assert all(name.startswith(('neck.norm.', 'head.fc.')) for name in group['param_names'])
    assert sorted(seen) == sorted(shapes)
