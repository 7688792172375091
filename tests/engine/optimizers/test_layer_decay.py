"""Layer ids name by name, and the constructor's groups against the official rule for the thirteen recipes."""
import logging
import re

import pytest
import torch
import torch.nn as nn
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.engine.optimizers.layer_decay import derive_num_layers, find_backbones, format_groups, get_layer_id
from convnext_mm.published.paper import published

SMALL = dict(depths=(1, 1, 4, 1), channels=(8, 16, 24, 32))
RECIPES = [*published()['coco'], *published()['ade20k']]

IDS = [  # name, id among 6 layers by layer_wise, by stage_wise
    ('downsample_layers.0.0.weight', 0, 0),
    ('downsample_layers.0.1.bias', 0, 0),
    ('stages.0.2.gamma', 1, 1),
    ('downsample_layers.1.1.weight', 2, 0),
    ('stages.1.0.dwconv.weight', 2, 2),
    ('downsample_layers.2.0.weight', 3, 0),
    ('stages.2.0.norm.weight', 3, 3),
    ('stages.2.2.pwconv1.weight', 3, 3),
    ('stages.2.3.pwconv1.weight', 4, 3),
    ('stages.2.8.pwconv2.bias', 5, 3),
    ('downsample_layers.3.1.weight', 6, 0),
    ('stages.3.0.gamma', 6, 4),
    ('stages.3.2.gamma', 6, 4),
    ('norm0.weight', 7, 7),
    ('norm3.bias', 7, 7),
    ('stages.2.3._orig_mod.gamma', 4, 3),
    ('_fsdp_wrapped_module.stages.2._fsdp_wrapped_module.3._checkpoint_wrapped_module.gamma', 4, 3),
    ('head.stages_proj.weight', 7, 7),
]


@pytest.mark.parametrize(('name', 'layer', 'stage'), IDS)
def test_layer_ids(name, layer, stage):
    assert get_layer_id(name, 6) == layer
    assert get_layer_id(name, 6, 'stage_wise') == stage


@pytest.mark.parametrize(('depth', 'layers'), [(9, 6), (27, 12), (6, 5), (8, 6), (1, 4), (3, 4), (4, 5)])
def test_number_of_layers(depth, layers):
    assert derive_num_layers((3, 3, depth, 3)) == layers
    assert get_layer_id(f'stages.2.{depth - 1}.gamma', layers) == layers - 1


class Detector(nn.Module):
    """A backbone with something behind it that trains at the base rate."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.neck = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.shared = self.neck[0].bias


def build(model, lr=1e-4, weight_decay=.05, optimizer='AdamW', **paramwise):
    paramwise.setdefault('decay_rate', .9)
    return build_optim_wrapper(model, dict(
        optimizer=dict(type=optimizer, lr=lr, weight_decay=weight_decay),
        constructor='convnext_mm.LayerDecayOptimWrapperConstructor', paramwise_cfg=paramwise))


def settings(wrapper):
    """Parameter name -> (rate, weight decay)."""
    found = {}
    for group in wrapper.optimizer.param_groups:
        assert len(group['params']) == len(group['param_names'])
        for name in group['param_names']:
            assert name not in found, f'{name} is in two groups'
            found[name] = (group['lr'], group['weight_decay'])
    return found


def official(name, ndim, recipe):
    """Rate and weight decay of a parameter, written down from paper.json's `layer_decay` alone."""
    layers = recipe['num_layers']
    parts = name.split('.')
    if parts[0] != 'backbone' or parts[1].startswith('norm'):
        layer = layers + 1
    elif recipe['decay_type'] == 'stage_wise':
        layer = 0 if parts[1] == 'downsample_layers' else int(parts[2]) + 1
    elif parts[1] == 'downsample_layers':
        layer = [0, 2, 3, layers][int(parts[2])]
    else:
        layer = [1, 2, 3 + int(parts[3]) // 3, layers][int(parts[2])]
    return (recipe['lr'] * recipe['decay_rate'] ** (layers + 1 - layer),
            0 if ndim == 1 or name.endswith('.bias') else recipe['weight_decay'])


@pytest.mark.parametrize('recipe', RECIPES, ids=lambda r: r['config'])
def test_groups_are_the_official_ones(recipe):
    with torch.device('meta'):
        model = Detector(ConvNeXt(recipe['arch']))
    ours = settings(build(model, recipe['lr'], recipe['weight_decay'], decay_rate=recipe['decay_rate'],
                          decay_type=recipe['decay_type']))
    expected = {name: official(name, p.ndim, recipe) for name, p in model.named_parameters()}
    assert ours.keys() == expected.keys()
    assert {n: (ours[n], expected[n]) for n in ours if ours[n] != pytest.approx(expected[n], rel=1e-12)} == {}
    explicit = build(model, recipe['lr'], recipe['weight_decay'], decay_rate=recipe['decay_rate'],
                     decay_type=recipe['decay_type'], num_layers=recipe['num_layers'])
    assert settings(explicit) == ours


def test_every_trainable_parameter_is_in_one_group_and_frozen_ones_in_none():
    model = Detector(ConvNeXt(SMALL, frozen_stages=1))
    found = settings(build(model))
    assert set(found) == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any(n.startswith('backbone.stages.0') for n in found)
    assert len(set(map(id, (p for g in build(model).optimizer.param_groups for p in g['params'])))) == len(found)


def wrap(levels):
    model = Detector(ConvNeXt(SMALL))
    for level in levels:
        outer = nn.Module()
        outer.add_module(level, model)
        model = outer
    return model


@pytest.mark.parametrize('levels', [(), ('detector',), ('module',), ('detector', 'student', 'module')])
def test_backbone_is_found_wherever_it_is(levels):
    prefix = ''.join(f'{level}.' for level in reversed(levels))
    assert list(find_backbones(wrap(levels))) == [f'{prefix}backbone.']
    plain = settings(build(wrap(())))
    # The constructor itself takes an outermost `module` off, as mmengine's does.
    assert {n[n.index('backbone.'):]: v for n, v in settings(build(wrap(levels))).items() if 'backbone.' in n} == \
        {n: v for n, v in plain.items() if 'backbone.' in n}


def test_bare_backbone_and_two_backbones_of_different_depth():
    assert list(find_backbones(ConvNeXt(SMALL))) == ['']
    both = nn.ModuleDict(dict(a=ConvNeXt(SMALL), b=ConvNeXt(dict(SMALL, depths=(1, 1, 7, 1)))))
    found = settings(build(both, lr=1., decay_rate=.5))
    assert found['a.stages.2.3.gamma'][0] == found['b.stages.2.6.gamma'][0] == .5 ** 2
    assert found['a.downsample_layers.0.0.weight'][0] == .5 ** 6
    assert found['b.downsample_layers.0.0.weight'][0] == .5 ** 7
    assert found['a.norm3.weight'][0] == found['b.norm3.weight'][0] == 1.


def test_partial_backbone_keeps_the_ids_of_the_whole():
    whole, part = (settings(build(Detector(ConvNeXt(SMALL, out_indices=i)))) for i in ((0, 1, 2, 3), (0, 1)))
    assert part.items() <= whole.items()


W, B, NORM = 'backbone.stages.2.0.pwconv1.weight', 'backbone.stages.2.0.pwconv1.bias', 'backbone.stages.2.0.norm.weight'
GAMMA, NECK, NECK_NORM = 'backbone.stages.2.0.gamma', 'neck.0.weight', 'neck.1.bias'
MULTIPLIERS = [  # paramwise_cfg, {name: (rate as a multiple of the official one, weight decay of a base of 1)}
    ({}, {W: (1, 1), B: (1, 0), NORM: (1, 0), GAMMA: (1, 0), NECK: (1, 1), NECK_NORM: (1, 0)}),
    (dict(norm_decay_mult=.5), {NORM: (1, .5), NECK_NORM: (1, .5), B: (1, 0), GAMMA: (1, 0), W: (1, 1)}),
    (dict(bias_decay_mult=.5), {B: (1, .5), NORM: (1, 0), NECK_NORM: (1, 0), GAMMA: (1, 0), W: (1, 1)}),
    (dict(norm_decay_mult=0., bias_decay_mult=1.), {B: (1, 1), NORM: (1, 0), NECK_NORM: (1, 0)}),
    (dict(custom_keys={'neck': dict(lr_mult=10)}), {NECK: (10, 1), NECK_NORM: (10, 0), W: (1, 1)}),
    (dict(custom_keys={'neck': dict(decay_mult=.1)}), {NECK: (1, .1), NECK_NORM: (1, .1), W: (1, 1)}),
    (dict(custom_keys={'backbone': dict(lr_mult=.1), 'stages.2.0.pwconv1': dict(lr_mult=.2, decay_mult=2)}),
     {W: (.2, 2), B: (.2, 2), NORM: (.1, 0), NECK: (1, 1)}),
    (dict(custom_keys={'norm': dict(decay_mult=0)}, norm_decay_mult=1), {NORM: (1, 0), NECK_NORM: (1, 1)}),
]


@pytest.mark.parametrize(('paramwise', 'expected'), MULTIPLIERS)
def test_multipliers(paramwise, expected):
    model = Detector(ConvNeXt(SMALL))
    official_rates = settings(build(model, weight_decay=1.))
    found = settings(build(model, weight_decay=1., **paramwise))
    for name, (rate, decay) in expected.items():
        assert found[name][0] == pytest.approx(official_rates[name][0] * rate), name
        assert found[name][1] == pytest.approx(decay), name


def test_other_options_of_custom_keys_reach_the_group():
    wrapper = build(Detector(ConvNeXt(SMALL)), custom_keys={'neck': dict(betas=(.5, .6))})
    assert {g['betas'] for g in wrapper.optimizer.param_groups if 'neck.0.weight' in g['param_names']} == {(.5, .6)}


def test_grn_is_not_decayed():
    found = settings(build(Detector(ConvNeXt(SMALL, use_grn=True))))
    assert {v[1] for n, v in found.items() if '.grn.' in n} == {0}


BAD = [
    (dict(decay_rate=0), ValueError, 'decay_rate.*above 0.*got 0'),
    (dict(decay_rate=1.5), ValueError, 'decay_rate.*got 1.5'),
    (dict(decay_rate='0.9'), TypeError, "decay_rate.*'0.9'"),
    (dict(decay_rate=float('nan')), ValueError, 'decay_rate.*a finite number.*got nan'),
    (dict(decay_type=3), TypeError, 'decay_type.*layer_wise, stage_wise.*3'),
    (dict(bias_decay_mult=10**400), ValueError, 'bias_decay_mult.*a finite number of 0 or more'),
    (dict(num_layers=1001), ValueError, 'num_layers.*from 1 to 1000.*1001'),
    (dict(decay_type='block_wise'), ValueError, "decay_type.*layer_wise, stage_wise.*'block_wise'"),
    (dict(num_layers='6'), TypeError, "num_layers.*'6'"),
    (dict(num_layers=3), ValueError, 'num_layers=3 is too small'),
    (dict(num_layers=2, decay_type='stage_wise'), ValueError, 'num_layers=2 is too small'),
    (dict(norm_decay_mult='0'), TypeError, "norm_decay_mult.*'0'"),
    (dict(custom_keys=['neck']), TypeError, r"custom_keys.*\['neck'\]"),
    (dict(custom_keys={'neck': dict(lr_mult='x')}), TypeError, r"custom_keys\['neck'\].lr_mult.*'x'"),
    (dict(flat_decay_mult=0), ValueError, 'takes decay_rate.*got flat_decay_mult'),
]


@pytest.mark.parametrize(('paramwise', 'error', 'message'), BAD, ids=lambda value: str(value)[:40])
def test_bad_settings(paramwise, error, message):
    with pytest.raises(error, match=message):
        build(Detector(ConvNeXt(dict(SMALL, depths=(1, 1, 9, 1)))), **paramwise)


def test_num_layers_of_a_tiny_is_refused_on_a_small():
    """mmdet's constructor takes it, and trains early layers above the base rate."""
    with torch.device('meta'):
        model = Detector(ConvNeXt('small'))
    with pytest.raises(ValueError, match='num_layers=6 is too small'):
        build(model, num_layers=6)


@pytest.mark.parametrize(('cfg', 'message'), [
    (dict(optimizer=dict(type='AdamW')), r'optimizer must give lr'),
    (dict(optimizer=dict(type='AdamW', lr=1e-4), paramwise_cfg=dict()), 'decay_rate is missing')])
def test_incomplete_settings(cfg, message):
    cfg = {'constructor': 'convnext_mm.LayerDecayOptimWrapperConstructor', 'paramwise_cfg': dict(decay_rate=.9), **cfg}
    with pytest.raises(ValueError, match=message):
        build_optim_wrapper(Detector(ConvNeXt(SMALL)), cfg)


def test_model_without_convnext():
    with pytest.raises(ValueError, match='found no ConvNeXt.*Sequential'):
        build(nn.Sequential(nn.Linear(2, 2)))


def test_log_is_one_compact_table():
    logger, records = MMLogger.get_instance('layer_decay_test'), []
    handler = logging.Handler(logging.INFO)
    handler.emit = records.append
    logger.addHandler(handler)
    wrapper = build(Detector(ConvNeXt(SMALL)))
    assert len(records) == 1
    lines = records[0].getMessage().splitlines()
    assert len(lines) == 2 + len(wrapper.optimizer.param_groups) <= 2 + 2 * (derive_num_layers(SMALL['depths']) + 2)
    assert lines[1].split() == ['layer', 'parameters', 'learning', 'rate', 'weight', 'decay']
    rows = format_groups(wrapper.optimizer.param_groups).splitlines()[1:]
    total = sum(int(row.split()[1].replace(',', '')) for row in rows)
    assert total == sum(p.numel() for p in Detector(ConvNeXt(SMALL)).parameters())


@pytest.mark.parametrize('arch', ARCHS)
def test_no_rate_above_the_base_rate(arch):
    with torch.device('meta'):
        model = ConvNeXt(arch)
    rates = [g['lr'] for g in build(model, lr=1.).optimizer.param_groups]
    assert max(rates) == 1
    assert re.search(r'\n0 ', format_groups(build(model).optimizer.param_groups))
