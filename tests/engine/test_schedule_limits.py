"""A schedule that lifts the rates of layer decay is found: of those that rise in mmengine's schedulers, no others."""
import pytest
import torch
from mmengine.optim import scheduler as schedulers

from convnext_mm.engine.schedule_limits import built_limits, describe_limit, find_limits, limited_rate

RATES = [1e-6, 1e-5, 1e-4]
STEPS = 20


def simulate(settings):
    """(built scheduler, highest and last rate of each group) of a run of ``STEPS`` iterations."""
    optimizer = torch.optim.SGD([dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=rate) for rate in RATES], lr=1)
    scheduler = getattr(schedulers, settings['type'])(optimizer, **{
        key: value for key, value in settings.items() if key != 'type'})
    rates = [[group['lr'] for group in optimizer.param_groups]]
    for _ in range(STEPS - 1):
        optimizer.step()
        scheduler.step()
        rates.append([group['lr'] for group in optimizer.param_groups])
    return scheduler, [max(values) for values in zip(*rates)], rates[-1]


def of(kind, **settings):
    return dict(type=kind, **{**dict(end=STEPS, by_epoch=False), **settings})


RISING = [of('CosineAnnealingLR', T_max=STEPS - 1, eta_min=5e-6), of('PolyLR', power=.9, eta_min=2e-5),
          of('CosineRestartLR', periods=[STEPS], eta_min=3e-6),
          of('CosineAnnealingParamScheduler', param_name='lr', T_max=STEPS - 1, eta_min=5e-6)]
SOUND = [of('CosineAnnealingLR', T_max=STEPS - 1, eta_min=1e-6), of('CosineAnnealingLR', T_max=9),
         of('CosineAnnealingLR', T_max=STEPS - 1, eta_min_ratio=.1), of('PolyLR', power=.9), of('MultiStepLR',
                                                                                              milestones=[3, 9]),
         of('LinearLR', start_factor=.1), of('CosineRestartLR', periods=[STEPS], eta_min_ratio=.5),
         of('ReduceOnPlateauLR', rule='less', min_value=5e-6, by_epoch=True)]


@pytest.mark.parametrize('settings', RISING, ids=lambda settings: settings['type'])
def test_rates_that_rise_are_named(settings):
    scheduler, _, last = simulate(settings)
    limit, = find_limits([dict(type='LinearLR', start_factor=.1), settings])
    assert built_limits([scheduler], [limit.key]) == [limit]
    rising = sum(end > start for end, start in zip(last, RATES))
    assert rising > 0
    text = describe_limit(limit, RATES)
    assert f'param_scheduler.1 ({settings["type"]}) has eta_min={settings["eta_min"]:g}, but {rising} of 3' in text
    assert 'the lowest at 1e-06' in text
    assert [limited_rate(rate, limit) > rate for rate in RATES] == [end > start for end, start in zip(last, RATES)]
    assert ('eta_min_ratio' in text) == ('Poly' not in settings['type'])


@pytest.mark.parametrize('settings', SOUND, ids=str)
def test_other_schedules_are_not_named(settings):
    if 'Plateau' not in settings['type']:
        scheduler, highest, _ = simulate(settings)
        assert all(rate <= start * (1 + 1e-6) for rate, start in zip(highest, RATES))
        assert not any(describe_limit(limit, RATES) for limit in built_limits([scheduler], ['k']))
    assert not any(describe_limit(limit, RATES) for limit in find_limits(settings))


def test_the_mend_keeps_the_ratios_of_layer_decay():
    settings = of('CosineAnnealingLR', T_max=STEPS - 1, eta_min=5e-6)
    assert 'eta_min_ratio=0.05' in describe_limit(find_limits(settings)[0], RATES)
    _, _, last = simulate(of('CosineAnnealingLR', T_max=STEPS - 1, eta_min_ratio=.05))
    assert last == pytest.approx([.05 * rate for rate in RATES])


def test_one_rate_for_all():
    settings = of('OneCycleLR', eta_max=1e-3, total_steps=STEPS)
    scheduler, highest, _ = simulate(settings)
    assert highest == pytest.approx([1e-3] * 3, rel=.1)
    limit, = find_limits(dict(adam=[settings]))
    assert built_limits([scheduler], [limit.key]) == [limit]
    assert limit.key == 'param_scheduler.adam.0'
    assert 'eta_max=0.001 for every layer, so that the rates of layer decay, 1e-06 to 0.0001,' in describe_limit(
        limit, RATES)
    assert describe_limit(limit, [1e-4, 1e-4]) == ''
    assert find_limits([of('OneCycleLR', eta_max=RATES)]) == []


@pytest.mark.parametrize('kind', ['CosineAnnealingMomentum', 'PolyMomentum', 'CosineRestartMomentum'])
def test_momenta_are_no_rates(kind):
    assert find_limits([of(kind, eta_min=.5)]) == []
