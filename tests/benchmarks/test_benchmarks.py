"""The benchmarks count and judge rightly, refuse to compare unequal work, and run from end to end."""
import argparse
import copy
import json
import os
import sys

import backbone
import bars
import environment
import limits
import measure
import peers
import products
import pytest
import show
import startup
import throughput
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.evaluation.cost import count_classifier
from convnext_mm.utils.errors import UserError

IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


# The byte counter.

class Saves(torch.autograd.Function):
    """Keeps its input by ``save_for_backward`` or as an attribute."""

    @staticmethod
    def forward(ctx, x, attribute):
        if attribute:
            ctx.x = [x]
        else:
            ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2, None


def unused(layer, x):
    layer(x).exp()
    return layer(x)


#: What is computed of x (4, 8) and a Linear(8, 16), and the floats that stay: x is 32 of them, an output 64.
FORWARDS = {
    'input of a linear layer, not its weight': (lambda layer, x: layer(x), 32),
    'input of an activation': (lambda layer, x: F.gelu(layer(x)), 32 + 64),
    'output of an activation': (lambda layer, x: layer(x).exp(), 32 + 64),
    'the same tensor twice': (lambda layer, x: (lambda y: y * y)(layer(x)), 32 + 64),
    'views share their storage': (lambda layer, x: (lambda y: y[:2] * y[2:].view(2, 16))(layer(x)), 32 + 64),
    'a view keeps all of it': (lambda layer, x: (layer(x)[0]).square(), 32 + 64),
    'what is freed is not kept': (unused, 32),
    'a checkpointed block keeps its input': (
        lambda layer, x: checkpoint(lambda y: F.gelu(F.gelu(y).square()), layer(x), use_reentrant=False), 32 + 64),
    'three of them keep one each': (
        lambda layer, x: [x := layer(x), *(x := checkpoint(lambda y: F.gelu(y).exp(), x, use_reentrant=False)
                                           for _ in range(3))][-1], 32 + 3 * 64),
    'custom function': (lambda layer, x: Saves.apply(layer(x), False), 32 + 64),
    'attribute of a custom function': (lambda layer, x: Saves.apply(layer(x), True), 32 + 64),
}


@pytest.mark.parametrize('case', FORWARDS)
def test_bytes_kept(case):
    forward, floats = FORWARDS[case]
    layer, x = nn.Linear(8, 16), torch.randn(4, 8)
    kept, outputs = measure.kept_bytes(lambda: [forward(layer, x)], layer.parameters())
    assert kept == 4 * floats
    outputs[0].sum().backward()
    assert layer.weight.grad is not None


def test_bytes_kept_of_recomputed_blocks():
    arch = dict(depths=(1, 1, 3, 1), channels=(8, 16, 24, 32))
    kept = {}
    for deep in (3, 5):
        model = ConvNeXt(dict(arch, depths=(1, 1, deep, 1)), with_cp=True, layer_scale_init_value=1.)
        kept[deep], outputs = measure.kept_bytes(lambda model=model: model(IMAGES), model.parameters())
        del outputs
    # One more block keeps its input and nothing else: 24 maps of 4 x 4.
    assert kept[5] - kept[3] == 2 * 4 * 24 * 4 * 4


def test_a_measurement_alone():
    assert measure.alone(os.getpid) != os.getpid()
    assert measure.alone(max, 1, 2) == 2
    with pytest.raises(UserError, match='killed'):
        measure.alone(os.abort)


def test_the_peak_of_a_process_is_its_own():
    held = b'x' * 2 ** 30
    before, after, now = json.loads(startup.child("""if True:
        import measure
        before, = measure.process_bytes('VmHWM')
        b'x' * 2 ** 28
        print([before, *measure.process_bytes('VmHWM', 'VmRSS')])"""))
    assert before < len(held)
    assert after - now > .9 * 2 ** 28 < after - before


# Time.

@pytest.mark.parametrize(('rounds', 'first', 'calls'), [
    (dict(a=3, b=3, c=3), None, 'abc abc abc'), (dict(a=2, b=2, c=2), dict(a=.01, b=1, c=1), 'aabc aabc'),
    (dict(a=3, b=1, c=2), None, 'abc ac a')])
def test_calls_are_in_turn(rounds, first, calls, monkeypatch):
    seen = []
    monkeypatch.setattr(measure.time, 'perf_counter', lambda: 10. * len(seen))
    samples = measure.interleave({name: lambda name=name: seen.append(name) for name in 'abc'}, rounds, first,
                                 step=lambda: seen.append(' '))
    assert ''.join(seen).replace(' ', '') == calls.replace(' ', '')
    # Ten seconds a call on this clock, whatever it is repeated.
    assert samples == {name: [10.] * n for name, n in rounds.items()}


@pytest.mark.parametrize(('samples', 'expected'), [
    ([3.], (3, 3, 3)), ([5., 1, 2, 3, 4], (3, 2, 4)), ([1., 2], (1.5, 1.25, 1.75))])
def test_spread(samples, expected):
    assert measure.spread(samples) == expected


@pytest.mark.parametrize(('seconds', 'slow', 'rounds'), [
    (1, '', dict(a=3, b=3, c=3)), (20, '', dict(a=5, b=5, c=5)), (99, '', dict(a=9, b=9, c=9)),
    (20, 'b', dict(a=8, b=2, c=8))])
def test_rounds(seconds, slow, rounds):
    assert measure.plan_rounds(seconds, dict(a=1., b=2, c=1), slow, 3, 9) == rounds


def test_only_slow_peers_get_fewer_rounds():
    warm = {peers.OURS: 9., peers.OURS_CP: 9., peers.MMPRETRAIN: 9., peers.SWIN: 9., 'timm linear': 1.,
            'timm conv': 1.4}
    rows = [dict(name=name, precision='float32', equal=name != peers.SWIN) for name in warm]
    assert backbone.beaten(rows, {(name, 'float32'): s for name, s in warm.items()}) == {('timm conv', 'float32')}


# Limits.

@pytest.mark.parametrize(('arch', 'resolution'), [('atto', 64), ('tiny', 224)])
def test_work_of_a_convnext(arch, resolution):
    work = limits.convnext_work(limits.convnext_stages(ARCHS[arch], 2, resolution, resolution))
    assert work.flops / 2 + 49 * work.depthwise == 2 * count_classifier(arch, resolution).macs['backbone']


def test_counted_work():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 1, 1))
    work = limits.counted_work(lambda: F.linear(model(torch.zeros(2, 3, 5, 5)).flatten(1), torch.zeros(4, 25)))
    assert work == limits.Work(2 * (2 * 25 * 8 * 27 + 2 * 25 * 8 + 2 * 25 * 4), 2 * 8 * 25)


def test_least_time():
    peaks = limits.Peaks(dict(float32=100., bfloat16=400.), copy=10.)
    work = limits.Work(1000., 20.)
    assert [peaks.seconds(work, *how) for how in (('float32', 'inference'), ('bfloat16', 'inference'), (
        'float32', 'training'))] == [10 + 16, 2.5 + 8, 3 * 26]


PRODUCTS = [products.Product(kind, 24, 40) for kind in products.KINDS]


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('product', PRODUCTS, ids=str)
def test_libraries_compute_the_same(product, precision):
    a, b, bias, out = products.make_tensors(product, 64, precision, 'cpu')
    expected = {products.FORWARD: lambda: a.double() @ b.double().t() + bias, products.OF_INPUT: lambda:
                a.double() @ b.double(), products.OF_WEIGHT: lambda: a.double().t() @ b.double()}[product.kind]()
    for library in products.libraries('cpu', precision, product.kind):
        found = products.multiply(library, product, a, b, bias, out)
        # A convolution's rows are pixels.
        found = found.permute(0, 2, 3, 1).reshape(expected.shape) if found.ndim == 4 and len(found) < 40 else found
        assert peers.difference([found.reshape(expected.shape)], [expected]) < (1e-5 if precision == 'float32' else .02)


@pytest.mark.parametrize(('kind', 'learns', 'packed'), [
    (products.FORWARD, False, True), (products.FORWARD, True, False), (products.OF_INPUT, False, False),
    (products.OF_WEIGHT, False, False)])
def test_weights_that_learn_are_not_laid_out_beforehand(kind, learns, packed):
    names = products.libraries('cpu', 'float32', kind, learns)
    assert (products.PACKED in names) == packed
    assert {products.TORCH, products.LINEAR, products.CONVOLUTION} <= set(names)


@pytest.mark.parametrize('winner', products.CALLERS)
def test_the_fastest_library_is_taken(winner, monkeypatch):
    """At each shape by itself, in the forward pass and for both gradients."""
    monkeypatch.setattr(products, 'libraries', lambda *how: tuple(products.CALLERS))
    monkeypatch.setattr(products, 'time_call', lambda call: call() or (1 if call.__defaults__ == (winner,) else 2))
    called = []
    monkeypatch.setattr(products, 'CALLERS', {name: lambda *args, name=name: called.append(name)
                                              for name in products.CALLERS})
    products.measure_libraries.cache_clear()
    stages = limits.convnext_stages(ARCHS['atto'], 1, 32, 32)
    shapes = limits.OwnShapes(stages, 'float32', 'cpu', 'training')
    products.measure_libraries.cache_clear()
    assert {library for library, _ in shapes.libraries.values()} == {winner}
    assert {product.kind for product in shapes.libraries} == set(products.KINDS)
    called.clear()
    shapes()
    forward = 4 + 2 * sum(ARCHS['atto'].depths)
    # No gradient of the images.
    assert called == [winner] * (3 * forward - 1)


def test_table_of_libraries():
    lines = products.table(['float32'], 'cpu', [8], rows=64).splitlines()
    assert len(lines) == 1 + 6 and all(line.count('*') == 1 for line in lines[1:]), lines


# Equal work.

@pytest.fixture(scope='module')
def contestants():
    return peers.build('atto', 'cpu')[0]


@torch.no_grad()
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_contestants_of_equal_architecture_agree(contestants, precision):
    reference = contestants[0].model.eval()(IMAGES)
    equal = [contestant for contestant in contestants if contestant.equal]
    assert [contestant.name for contestant in equal[:3]] == [peers.OURS, peers.OURS_CP, peers.OURS_PACKED]
    for contestant in equal:
        contestant.model.eval()
        trial = backbone.Trial(contestant, precision, 'inference', IMAGES)
        found = peers.check_equal(contestant.name, 'outputs', trial(), reference, precision)
        assert found < (1e-5 if precision == 'float32' else .05)


@pytest.mark.parametrize('change', [
    lambda outputs: [outputs[0], outputs[1] * 1.01], lambda outputs: [outputs[0], outputs[1] * float('nan')],
    lambda outputs: outputs[:1], lambda outputs: [outputs[0], outputs[1][..., :-1].contiguous()],
    lambda outputs: [outputs[0], outputs[1].contiguous(memory_format=torch.channels_last)]])
def test_unequal_work_is_refused(change):
    outputs = [torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4)]
    assert peers.check_equal('peer', 'outputs', [output.clone() for output in outputs], outputs, 'float32') == 0
    with pytest.raises(UserError, match='^peer: outputs'):
        peers.check_equal('peer', 'outputs', change(outputs), outputs, 'float32')


@torch.no_grad()
def test_one_wrong_weight_is_noticed(contestants):
    ours, peer = contestants[0].model.eval(), copy.deepcopy(contestants[1].model).eval()
    peer.stages[2][3].gamma[0] += .5
    with pytest.raises(UserError, match='equal work'):
        peers.check_equal('peer', 'outputs', peer(IMAGES), ours(IMAGES), 'float32')


def test_what_is_not_installed_is_named(monkeypatch):
    for name in [*sys.modules, *peers.PEERS]:
        if name.split('.')[0] in peers.PEERS:
            monkeypatch.setitem(sys.modules, name, None)
    contestants, missing = peers.build('atto', 'cpu')
    assert list(missing) == list(peers.PEERS)
    assert [contestant.name for contestant in contestants] == [peers.OURS, peers.OURS_CP, peers.OURS_PACKED]


# The bars.

def made_up():
    """Results in which every bar of a CPU is held, as a dict of what is easily changed."""
    seconds = {peers.OURS: 1., peers.OURS_CP: 1.4, peers.MMPRETRAIN: 2., 'timm linear': 1.2, 'timm conv': 1.3,
               peers.SWIN: .5, limits.OWN_SHAPES: .9}
    kept = {peers.OURS: 50., peers.OURS_CP: 20., peers.MMPRETRAIN: 100.}
    rows = [dict(task=task, size=size, precision=precision, name=name, kept=kept.get(name), peak_memory=kept.get(name),
                 median=median * (1 if precision == 'float32' else .5),
                 equal=name not in (peers.SWIN, limits.OWN_SHAPES))
            for task in ('inference', 'training') for size in ('224x224', '512x512', '800x1280')
            for precision in ('float32', 'bfloat16') for name, median in seconds.items()]
    return dict(rows=rows, environment=dict(device='cpu'),
                startup=dict(import_seconds=.1, build_seconds=.4, load=dict(model=100, growth=10)))


def change(results, field, value, **where):
    for row in results['rows']:
        if all(row[key] == wanted for key, wanted in where.items()):
            row[field] = value


#: A change, and words of the bars that it breaks; the others stay.
BROKEN = [
    (lambda r: change(r, 'median', 1.05, name=peers.MMPRETRAIN, task='inference', size='512x512', precision='float32'),
     ['inference 512x512, float32: speed over mmp', 'inference 512x512, bfloat16: speed over mmp']),
    (lambda r: change(r, 'median', .96, name='timm conv', size='224x224', precision='bfloat16', task='inference'), []),
    (lambda r: change(r, 'median', .48, name='timm conv', size='224x224', precision='bfloat16', task='inference'),
     ['inference, worst of 6 cells']),
    (lambda r: change(r, 'median', .99, name='timm linear', precision='float32', task='inference'),
     ['inference, share of 6 cells']),
    (lambda r: change(r, 'median', 1.05, name='timm linear', size='224x224', precision='float32', task='training'),
     ['training, worst of 6 cells: speed']),
    (lambda r: change(r, 'median', .5, name=peers.SWIN), []),
    (lambda r: change(r, 'median', .8, name=limits.OWN_SHAPES, size='512x512', precision='float32'),
     ['share of the limit']),
    (lambda r: change(r, 'kept', 56, name=peers.OURS, size='224x224'), ['bytes kept for backward, of']),
    (lambda r: change(r, 'kept', 26, name=peers.OURS_CP, size='224x224'), ['bytes kept for backward, with_cp']),
    (lambda r: r['startup'].update(import_seconds=.2), ['import convnext_mm']),
    (lambda r: r['startup'].update(build_seconds=.6), ["ConvNeXt('tiny')"]),
    (lambda r: r['startup']['load'].update(growth=100), ['growth of memory']),
]


@pytest.mark.parametrize(('spoil', 'words'), [(lambda r: None, []), *BROKEN])
def test_judge(spoil, words):
    results = made_up()
    spoil(results)
    judged = bars.judge(results)
    missed = [bar['name'] for bar in judged if not bar['held']]
    assert len(judged) == 17
    assert len(missed) == len(words)
    assert all(word in name for word, name in zip(words, missed)), missed


def test_judge_of_a_gpu():
    results = made_up()
    results['environment']['device'] = 'cuda'
    judged = {bar['name'].split(': ', 1)[-1].split(',')[0]: bar for bar in bars.judge(results)[:4]}
    assert {name: bar['held'] for name, bar in judged.items()} == {
        'speed over mmpretrain': True, 'speed over timm under torch.compile': None, 'peak memory': True}
    for row in list(results['rows']):
        if row['name'] == 'timm conv':
            results['rows'].append(dict(row, name=peers.TIMM_COMPILED, median=row['median'] * .5))
    assert bars.judge(results)[1]['held'] is False


@pytest.mark.parametrize(('seconds', 'memory', 'held'), [
    (.5, 50, (True, True)), (.5, 70, (True, False)), (2., 70, (False, True))])
def test_the_faster_of_ours_is_judged_on_a_gpu(seconds, memory, held):
    results = made_up()
    results['environment']['device'] = 'cuda'
    change(results, 'median', .75, name=peers.MMPRETRAIN, precision='bfloat16')
    results['rows'] += [dict(row, name=peers.OURS_COMPILED, median=row['median'] * seconds, peak_memory=memory)
                        for row in results['rows'] if row['name'] == peers.OURS]
    judged = bars.judge(results)
    assert (judged[0]['held'], judged[3]['held']) == held


def test_packed_weights_count_where_they_are_faster():
    results = made_up()
    results['rows'] += [dict(row, name=peers.OURS_PACKED, median=row['median'] * .8) for row in results['rows']
                        if row['name'] == peers.OURS and row['task'] == 'inference']
    change(results, 'median', 1.05, name=peers.OURS, task='inference')
    judged = {bar['name'].split(':')[0]: bar for bar in bars.judge(results)}
    assert judged['inference 512x512, float32']['measured'] == pytest.approx(.9 / .8)
    assert judged['inference, worst of 6 cells']['measured'] == pytest.approx(1.2 / .8)


def full_width(results, threads=2):
    results['environment'].update(cpu_capability='AVX512', threads=threads)
    results['peaks'] = dict(flops=dict(float32=300e9))
    return results


@pytest.mark.parametrize(('field', 'value', 'where', 'missed'), [
    (None, None, {}, ['inference, float32, worst', 'share of the limit']),
    ('median', .85, dict(name=peers.OURS, task='inference', precision='float32'), ['share of the limit']),
    ('median', 1.12, dict(name=peers.OURS, task='training', precision='float32', size='800x1280'), [
        'training 800x1280, float32', 'inference, float32, worst', 'share of the limit']),
    ('median', .3, dict(name=limits.OWN_SHAPES, precision='bfloat16', size='512x512'), [
        'inference, float32, worst', 'share of the limit'])])
def test_judge_of_full_width(field, value, where, missed):
    results = full_width(made_up())
    change(results, 'median', .35, name=limits.OWN_SHAPES, precision='bfloat16')
    if field:
        change(results, field, value, **where)
    judged = {bar['name']: bar['held'] for bar in bars.judge(results) if bar['name'].startswith('full width')}
    assert len(judged) == 9
    names = [name for name, held in judged.items() if not held]
    assert len(names) == len(missed) and all(words in name for words, name in zip(missed, names)), names
    assert len(bars.judge(full_width(results, threads=4))) == 17


def test_judge_of_one_process():
    results = dict(made_up(), together=True)
    judged, = bars.judge(results)
    assert judged['held'] and judged['name'].startswith('one process, worst of 12 cells')
    change(results, 'median', .49, name='timm conv', size='224x224', precision='bfloat16')
    assert not bars.judge(results)[0]['held']


def test_judge_without_a_start():
    results = dict(made_up(), startup=None)
    assert [bar['name'] for bar in bars.judge(made_up())[:-3]] == [bar['name'] for bar in bars.judge(results)]


def test_bars_without_the_peer_are_not_held():
    results = made_up()
    results['rows'] = [row for row in results['rows'] if row['name'] != peers.MMPRETRAIN]
    unknown = [bar['name'] for bar in bars.judge(results) if bar['held'] is None]
    assert len(unknown) == 10
    assert all('mmpretrain' in name for name in unknown)


# What a machine measures.

def cells(device, name):
    plan = backbone.full_plan(device)
    contestant = peers.Contestant(name, None, compiled=name in (peers.OURS_COMPILED, peers.TIMM_COMPILED))
    return [(task, str(size), precision) for task in ('inference', 'training') for size in plan.sizes
            for precision in plan.precisions if plan.includes(contestant, task, size, precision)]


@pytest.mark.parametrize(('device', 'bfloat16', 'name', 'number'), [
    ('cpu', True, peers.OURS, 12), ('cpu', True, 'timm conv', 12), ('cpu', True, peers.OURS_COMPILED, 2),
    ('cpu', True, peers.TIMM_COMPILED, 0), ('cpu', False, peers.OURS, 6), ('cpu', False, peers.OURS_COMPILED, 1),
    ('cuda', True, peers.OURS, 12), ('cuda', True, peers.MMPRETRAIN, 12), ('cuda', True, 'timm conv', 6),
    ('cuda', True, peers.OURS_COMPILED, 6), ('cuda', True, peers.TIMM_COMPILED, 2)])
def test_plan(monkeypatch, device, bfloat16, name, number):
    monkeypatch.setattr(environment, 'has_bfloat16', lambda: bfloat16)
    assert len(cells(device, name)) == number


def test_a_part_of_a_plan(tmp_path):
    plan = backbone.full_plan('cpu')
    args = dict(sizes=['800x1280', '224x224'], tasks=None, precisions=['float32'], together=True)
    part, words = backbone.choose(plan, argparse.Namespace(**args))
    assert [*map(str, part.sizes)] == ['224x224', '800x1280'] and part.precisions == ('float32',)
    assert (part.tasks, part.together, part.startup) == (backbone.TASKS, True, False)
    assert words == ['224x224', '800x1280', 'float32', 'together']
    nothing = argparse.Namespace(sizes=None, tasks=None, precisions=None, together=False)
    assert backbone.choose(plan, nothing) == (plan, [])
    with pytest.raises(UserError, match='^--sizes: there is no 5x5, expected some of 224x224, 512x512, 800x1280'):
        backbone.main(['--sizes', '5x5', '--out', str(tmp_path)])


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError('\nout of memory\nat length')


def test_a_peer_that_fails_is_noted(monkeypatch):
    monkeypatch.setattr(measure, 'WARM', 0)
    size, missing = backbone.Size(1, 32, 64), {}
    contestants = [peers.Contestant(peers.OURS, ConvNeXt('atto')), peers.Contestant('peer', Fails())]
    plan = backbone.Plan('atto', (size,), dict(inference=0), (1, 1))
    peaks = limits.Peaks(dict(float32=1., bfloat16=1.), 1.)
    rows = backbone.measure_cell(contestants, 'inference', size, plan, peaks, missing, lambda text: None)
    assert {row['name'] for row in rows} == {peers.OURS, limits.OWN_SHAPES}
    assert missing == {f'peer, inference 32x64, {precision}': 'out of memory' for precision in backbone.PRECISIONS}
    with pytest.raises(RuntimeError, match='out of memory'):
        backbone.measure_cell([peers.Contestant(peers.OURS, Fails())], 'inference', size, plan, peaks, {},
                              lambda text: None)


# From end to end.

def test_start(tmp_path):
    measured = startup.measure(quick=True)
    load = measured['load']
    assert 0 < measured['import_seconds'] < measured['class_seconds'] + 60
    assert load['model'] == sum(p.numel() * 4 for p in ConvNeXt('atto').parameters())
    assert load['growth'] <= load['growth_with_file'] + 2 ** 20
    with pytest.raises(UserError, match='exit code 1: .*no such module'):
        startup.child('raise ImportError("no such module")')


def test_backbone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(startup, 'measure', lambda *args: dict(
        import_seconds=.1, class_seconds=.2, build_seconds=.3, load=dict(
            arch='atto', model=100, growth=10, growth_with_file=110, seconds=.1)))
    monkeypatch.setattr(measure, 'WARM', 0)
    plan = backbone.Plan('atto', (backbone.Size(1, 32, 64),), dict(inference=0, training=0), (1, 1), quick=True)
    grown = []
    monkeypatch.setattr(show, 'write_json', lambda results, path, write=show.write_json: [
        grown.append(len(results['rows'])), write(results, path)][1])
    assert not backbone.main(['--quick', '--out', str(tmp_path / 'new')], plan)
    out = capsys.readouterr().out
    name = environment.file_name(environment.describe())
    results = json.loads((tmp_path / 'new' / f'{name}-backbone.json').read_text())
    assert (tmp_path / 'new' / f'{name}-backbone.png').read_bytes().startswith(b'\x89PNG')
    rows = results['rows']
    assert 0 < grown[0] < grown[1] == grown[2] == len(rows)
    ours = [row for row in rows if row['name'] == peers.OURS]
    assert [(row['task'], row['precision']) for row in ours] == [
        (task, precision) for task in ('inference', 'training') for precision in ('float32', 'bfloat16')]
    assert all(len(row['samples']) == 1 and row['median'] > 0 and row['limit_seconds'] > 0 for row in rows)
    # The limit is no network: it keeps nothing.
    assert {row['kept'] for row in rows if row['name'] == limits.OWN_SHAPES} == {None}
    assert all(row['kept'] > 0 for row in rows if row['task'] == 'training' and row['name'] != limits.OWN_SHAPES)
    assert all('gradients_differ' in row for row in rows
               if row['task'] == 'training' and row['equal'] and row['precision'] == 'float32')
    assert 'inference, 32x64, batch 1, 1 rounds' in out
    assert 'bytes kept for backward' in out
    # Of --tasks; the bytes kept are a panel of their own.
    for task, panels in (('inference', 1), ('training', 2)):
        part = dict(results, rows=[row for row in rows if row['task'] == task])
        assert sum(axes.get_visible() for axes in show.backbone_chart(part).axes) == panels


@pytest.mark.parametrize('place', ['file/results', 'file', '/proc/x'])
@pytest.mark.parametrize('name', ['backbone', 'detector', 'throughput'])
def test_a_place_that_cannot_be_written(name, place, tmp_path):
    (tmp_path / 'file').touch()
    pytest.importorskip('mmdet' if name == 'detector' else 'torch')
    module = __import__(name)
    with pytest.raises(UserError, match=f"--out '.*{place}' cannot be written"):
        module.main(['--out', str(tmp_path / place)])


def test_tables_and_chart_of_whole_models(tmp_path, capsys):
    environment_ = dict(environment.describe(), gpu='Fine GPU')
    rows = [dict(method=method, name=name, task=task, precision='float32', size='8x8', batch=2, limit_seconds=.1,
                 samples=[.4, .5], median=.5, low=.4, high=.6, peak_memory=3 * 2 ** 20 if task == 'training' else None)
            for method in ('Mask R-CNN', 'UPerNet') for task in ('inference', 'training')
            for name in ('ResNet', peers.OURS)]
    results = dict(environment=environment_, peaks=dict(flops=dict(float32=1e9), copy=2e9), rows=rows,
                   missing=dict(mmpretrain='No module'))
    text = show.detector_tables(results)
    assert 'Fine GPU' in text
    assert 'without mmpretrain: No module' in text
    lines = [line.split() for line in text.splitlines() if line.startswith(peers.OURS)]
    assert lines == [[peers.OURS, '4', '20', '%', '0.5', '0.4', '-', '0.6', '20', '%', '3']] * 2
    show.write(results, show.detector_chart, tmp_path / 'new' / environment.file_name(environment_))
    assert capsys.readouterr().out.split() == [f'{tmp_path}/new/fine-gpu{suffix}' for suffix in ('.json', '.png')]
    assert json.loads((tmp_path / 'new' / 'fine-gpu.json').read_text()) == results
    assert (tmp_path / 'new' / 'fine-gpu.png').read_bytes().startswith(b'\x89PNG')


class Inner(nn.Module):
    def forward(self, x):
        return x


class Outer(nn.Module):
    """Calls two parts of a list, the second through ``forward`` as mmseg does."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([Inner(), Inner()])

    def forward(self, x):
        return self.convs[1].forward(self.convs[0](x))


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.decode_head, self.auxiliary_head = Inner(), Outer(), Inner()

    def forward(self, x):
        return self.decode_head(self.backbone(x))


def test_parts_of_a_whole_model(monkeypatch):
    whole = pytest.importorskip('whole', reason='whole models need mmdet and mmseg')
    now = iter(range(99))
    monkeypatch.setattr(whole.time, 'perf_counter', lambda: next(now))
    model = Whole()
    clock = whole.Clock(model)
    assert [model(5), model(5)] == [5, 5]
    # Each look at the clock takes a second.
    assert clock.seconds == {'backbone': 2, 'decode_head.convs': 4, 'decode_head': 6}


def test_table_of_parts():
    whole = pytest.importorskip('whole', reason='whole models need mmdet and mmseg')
    rows = [dict(method='UPerNet', precision=precision, size='8x8', batch=2, median=median,
                 parts={'backbone': median / 4, whole.REST: median * 3 / 4})
            for precision, median in (('float32', .2), ('bfloat16', .1))]
    lines = whole.table(dict(environment=environment.describe(), rows=rows)).splitlines()
    assert lines[2] == 'UPerNet, 2 x 8x8, ms'
    assert [' '.join(line.split()) for line in lines[4:]] == [
        'backbone 50 25 25 %', f'{whole.REST} 150 75 75 %', 'median of a batch 200 100 2.00 times as fast']


# Classifiers beside Swin.

def test_classifiers_are_the_papers():
    pytest.importorskip('timm')
    models = throughput.build('tiny', throughput.QUICK.arch)
    shapes = {name: sorted(tuple(p.squeeze().shape) for p in model.parameters()) for name, model in models.items()}
    assert shapes[throughput.OURS] == shapes[throughput.TIMM] != shapes[throughput.SWIN]
    images = torch.randn(2, 3, throughput.SIDE, throughput.SIDE)
    for model in models.values():
        assert throughput.forward_of(model.eval(), images)().shape == (2, throughput.CLASSES)


@pytest.mark.parametrize('size', throughput.PAPER)
def test_the_paper_measured_the_sizes_that_are_measured(size):
    convnext, swin = throughput.PAPER[size]
    assert size in throughput.FULL.batches
    # Of the paper's text: up to 49 % more.
    assert 1.39 < convnext / swin < 1.495


def test_throughput(tmp_path, monkeypatch, capsys):
    pytest.importorskip('timm')
    samples = {throughput.OURS: [.5, .5], throughput.TIMM: [1., 1.], throughput.SWIN: [2., 2.]}
    monkeypatch.setattr(throughput, 'measure_size', lambda *args: samples)
    assert not throughput.main(['--quick', '--out', str(tmp_path / 'new')])
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith('tiny'))
    assert line.split() == ['tiny', '2', '4.0', '2.0', '1.0', '4.00', '2.00', '1.47']
    assert 'not to be compared' in out
    name = environment.file_name(environment.describe())
    results = json.loads((tmp_path / 'new' / f'{name}-throughput.json').read_text())
    assert [row['name'] for row in results['rows']] == list(samples)
    assert (tmp_path / 'new' / f'{name}-throughput.png').read_bytes().startswith(b'\x89PNG')
