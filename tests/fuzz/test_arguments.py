"""Random arguments of the backbone and of the optimizer constructor: they work, or the error names the argument.

`make test` tries some, `make check-long` 10,000 (7,000 and 3,000), the same in every run.
"""
import inspect
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn as nn
from hypothesis import given
from hypothesis import strategies as st
from mmengine.optim import build_optim_wrapper

from convnext_mm import ConvNeXt
from tests.helpers.fuzzing import run

pytestmark = pytest.mark.long

#: Values that no argument takes, that some take, and that look like what one takes.
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=6), st.binary(max_size=3),
    st.complex_numbers(),
    st.lists(st.one_of(st.integers(-9, 9), st.none(), st.text(max_size=2)), max_size=5),
    st.lists(st.integers(-5, 4), max_size=5).map(tuple), st.sets(st.integers(0, 3)),
    st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 3)), st.integers(-3, 3), max_size=3),
    # Beyond what any model has: smaller ones might be meant, and would only fill the memory.
    st.sampled_from([10 ** 6, 2 ** 31, 2 ** 63, 10 ** 30, -10 ** 30, 10 ** 400, -10 ** 400, 1e300, 1e-300]),
    st.sampled_from([np.int64(2), np.int32(-7), np.uint8(3), np.float32(.5), np.float64('nan'), np.bool_(True),
                     np.array(1), np.array(.5), np.array([0, 1]), np.zeros((2, 2)), np.array([]), np.array(['a', 'b']),
                     np.str_('tiny')]).map(lambda value: value.copy()),
    st.sampled_from([torch.tensor(1), torch.tensor([0, 3]), torch.tensor(.5), torch.zeros(2, 2), torch.float16]),
    st.sampled_from([Decimal('0.1'), Fraction(1, 3), object(), len, int, range(3), range(0), iter([0, 1]), slice(2),
                     ...]))
SMALL = st.lists(st.integers(1, 9), min_size=4, max_size=4)
BACKBONE = {
    'arch': st.one_of(*[st.fixed_dictionaries(dict(
        depths=st.lists(st.integers(1, 3), min_size=4, max_size=4), channels=SMALL))] * 15, st.just('atto')),
    'in_channels': st.integers(1, 5),
    'out_indices': st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True).flatmap(
        lambda stages: st.tuples(*(st.sampled_from([stage, stage - 4]) for stage in stages))),
    'drop_path_rate': st.floats(0, 1, exclude_max=True),
    'layer_scale_init_value': st.one_of(st.just(0), st.just(1e-6), st.floats(0, 1e6, exclude_max=True)),
    'use_grn': st.booleans(),
    'frozen_stages': st.integers(-1, 4),
    'with_cp': st.one_of(st.booleans(), st.integers(0, 4), st.lists(st.integers(0, 3))),
    'memory_format': st.sampled_from(['channels_last', 'contiguous_format']),
    'compile': st.just(False),
    'out_norms': st.booleans(),
    'output_stride': st.sampled_from([8, 16, 32]),
    'init_cfg': st.sampled_from([None, [], dict(type='Constant', layer='Linear', val=.1)]),
}
#: Where a part of a composite argument is wrong.
DAMAGED_ARCH = st.one_of(
    st.fixed_dictionaries(dict(depths=JUNK, channels=SMALL)), st.fixed_dictionaries(dict(depths=SMALL, channels=JUNK)),
    st.tuples(SMALL, st.integers(0, 3), JUNK).map(lambda drawn: dict(
        depths=[1] * 4, channels=[drawn[2] if i == drawn[1] else v for i, v in enumerate(drawn[0])])),
    st.fixed_dictionaries(dict(depths=SMALL, channels=SMALL, widths=SMALL)))


def show(tally):
    total, refused = sum(tally.values()), {name: count for name, count in tally.most_common() if name != 'worked'}
    return (f'{total} tried, {tally["worked"]} worked, {sum(refused.values())} refused: '
            + ', '.join(f'{name} {count}' for name, count in refused.items()))


def replaced(good, junk):
    """Return a strategy for ``{argument: value}``, of which none, one or two are from ``junk``, and their names."""
    wrong = st.lists(st.sampled_from(sorted(good)), min_size=1, max_size=2, unique=True)
    # Two of three have none: hypothesis draws by what is imported, too, and half left a fifth that works to luck.
    return st.one_of(st.just([]), st.just([]), wrong).flatmap(lambda names: st.tuples(st.fixed_dictionaries(
        {name: junk.get(name, JUNK) if name in names else strategy for name, strategy in good.items()}),
        st.just(names)))


def refusal(error, names):
    """Return the argument that an error names, one of ``names``."""
    assert isinstance(error, (ValueError, TypeError)), repr(error)
    message = str(error)
    found = [name for name in names if name in message]
    assert found, f'{message!r} names none of {names}'
    assert any(word in message for word in ('must', 'takes', 'gives', 'too small', 'is missing')), message
    return found[0]


def assert_gradients(model, outputs):
    """What is trained gets a finite gradient from outputs, and nothing else gets one."""
    loss = sum(output.square().mean() for output in outputs)
    if loss.requires_grad:
        # Without output norms, nothing may be left to train.
        loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_backbone(size, record_property):
    arguments = [name for name in inspect.signature(ConvNeXt).parameters if name != 'self']
    assert set(arguments) <= set(BACKBONE), 'an argument is not tried'
    good, tally = {name: BACKBONE[name] for name in arguments}, Counter()
    # mmengine copies what it is given for `init_cfg`, and looks into it later.
    junk = dict(arch=st.one_of(JUNK, DAMAGED_ARCH), init_cfg=good['init_cfg'],
                compile=JUNK.filter(lambda value: value is not True))
    sides = st.one_of(st.integers(32, 70), st.integers(1, 70))

    @given(replaced(good, junk), st.tuples(st.integers(1, 2), sides, sides), st.booleans())
    def check(drawn, shape, training):
        given, names = drawn
        torch.manual_seed(0)
        try:
            model = ConvNeXt(**given)
        except Exception as error:
            tally[refusal(error, names)] += 1
            return
        model.train(training)
        images = torch.randn(shape[0], model.in_channels, *shape[1:])
        if min(shape[1:]) < model.stride:
            with pytest.raises(ValueError, match='x must be images of at least'):
                model(images)
            tally['x'] += 1
            return
        outputs = model(images)
        assert len(outputs) == len(model.out_indices) == len(given['out_indices'])
        for stage, output in zip(model.out_indices, outputs):
            stride = min(4 * 2 ** stage, given.get('output_stride', 32))
            assert output.shape == (shape[0], model.channels[stage], *(side // stride for side in shape[1:]))
            assert output.isfinite().all()
        assert_gradients(model, outputs)
        tally['worked'] += 1

    run(check, size(150, 7000))
    record_property('tally', show(tally))
    assert tally['worked'] > .2 * sum(tally.values()) < 5 * sum(n for name, n in tally.items() if name != 'worked')


MULT = st.floats(0, 100)
CONSTRUCTOR = {
    'decay_rate': st.floats(0, 1, exclude_min=True),
    'decay_type': st.sampled_from(['layer_wise', 'stage_wise']),
    'num_layers': st.one_of(st.none(), st.integers(4, 1000)),
    'norm_decay_mult': st.one_of(st.none(), MULT),
    'bias_decay_mult': st.one_of(st.none(), MULT),
    'custom_keys': st.one_of(st.none(), st.dictionaries(
        st.sampled_from(['neck', 'backbone', 'stages.2', 'norm', '', 'nothing']),
        st.fixed_dictionaries({}, optional=dict(lr_mult=MULT, decay_mult=MULT, eps=st.just(1e-7))), max_size=3)),
    'lr': st.floats(0, 1),
    'weight_decay': st.floats(0, 1),
}
DAMAGED_KEYS = st.dictionaries(
    st.one_of(st.sampled_from(['neck', 'norm']), st.integers(), st.none(), st.binary(max_size=2)),
    st.one_of(JUNK, st.dictionaries(st.sampled_from(['lr_mult', 'decay_mult', 'lr', 'params', 'layer_id']), JUNK,
                                    max_size=2)), max_size=3)


class Model(nn.Module):
    """A backbone with a neck."""

    def __init__(self):
        super().__init__()
        self.backbone = ConvNeXt(dict(depths=(1, 1, 4, 1), channels=(2, 3, 4, 5)), frozen_stages=0)
        self.neck = nn.Sequential(nn.Conv2d(5, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x):
        *_, last = features = self.backbone(x)
        return sum(map(torch.mean, features)) + self.neck(last).square().mean()


def test_constructor(size, record_property):
    tally, images = Counter(), torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))

    @given(replaced(CONSTRUCTOR, dict(custom_keys=st.one_of(JUNK, DAMAGED_KEYS))),
           st.sampled_from([None] * 9 + ['more', 'less', 'whole']), JUNK)
    def check(drawn, changed, extra):
        given, names = drawn
        optimizer = dict(type='AdamW', **{name: given[name] for name in ('lr', 'weight_decay')})
        paramwise = {name: value for name, value in given.items() if name not in optimizer}
        if changed == 'more':
            paramwise[extra if isinstance(extra, (str, int, float)) else 'extra'] = 1
        elif changed == 'less':
            del paramwise['decay_rate']
        elif changed == 'whole' and not isinstance(extra, dict):
            paramwise = extra
        model = Model()
        try:
            wrapper = build_optim_wrapper(model, dict(
                optimizer=optimizer, paramwise_cfg=paramwise,
                constructor='convnext_mm.LayerDecayOptimWrapperConstructor'))
        except Exception as error:
            tally[refusal(error, [*names, *(['paramwise_cfg'] if changed else [])]) if names or changed else None] += 1
            return
        groups = wrapper.optimizer.param_groups
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert sorted(name for group in groups for name in group['param_names']) == sorted(trained)
        assert all(0 <= group['lr'] < float('inf') and 0 <= group['weight_decay'] < float('inf') for group in groups)
        loss = model(images)
        loss.backward()
        assert all(parameter.grad.isfinite().all() for group in groups for parameter in group['params'])
        tally['worked'] += 1

    run(check, size(100, 3000))
    record_property('tally', show(tally))
    assert None not in tally, 'what is right was refused'
    assert tally['worked'] > .2 * sum(tally.values()) < 5 * sum(n for name, n in tally.items() if name != 'worked')
