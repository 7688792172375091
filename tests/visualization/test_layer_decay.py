"""The table and the picture of layer decay say what the optimizer does."""
import math
import re

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from convnext_mm.apis.cli import main as run_command
from convnext_mm.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor
from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.published.paper import published
from convnext_mm.visualization import layer_decay as view
from tests.helpers.paths import ROOT

TINY = (3, 3, 9, 3)
#: Layer ids of the stem, of each stage (its downsampling layer first) and of the heads.
LAYER_WISE = [0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7]
STAGE_WISE = [0, 1, 1, 1, 0, 2, 2, 2, 0, *[3] * 9, 0, 4, 4, 4, 7]


@pytest.mark.parametrize(('decay_type', 'ids'), [('layer_wise', LAYER_WISE), ('stage_wise', STAGE_WISE)])
def test_both_types_over_depth(decay_type, ids):
    assert view.scales_by_depth(TINY, .7, decay_type) == pytest.approx([.7 ** (7 - i) for i in ids])


class Model(torch.nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.backbone, self.neck = ConvNeXt('tiny', **settings), torch.nn.Conv2d(1, 1, 1)


def groups(decay_type='layer_wise', settings=None, **paramwise):
    with torch.device('meta'):
        model = Model(**(settings or {}))
    cfg = dict(optimizer=dict(type='AdamW', lr=1., weight_decay=.05))
    return LayerDecayOptimWrapperConstructor(
        cfg, dict(decay_rate=.5, decay_type=decay_type, **paramwise)).group_parameters(model)


@pytest.mark.parametrize(('decay_type', 'ids'), [('layer_wise', LAYER_WISE), ('stage_wise', STAGE_WISE)])
def test_the_optimizers_rates_over_depth(decay_type, ids):
    assert view.rates_by_depth(groups(decay_type), 'backbone.', TINY) == [(i, .5 ** (7 - i)) for i in ids]


def test_custom_rates_and_frozen_stages_over_depth():
    steps = view.rates_by_depth(groups(settings=dict(frozen_stages=1),
                                       custom_keys={'stages.2.0.pwconv1': dict(lr_mult=10)}), 'backbone.', TINY)
    # Frozen are the stem and the first stage.
    assert all(layer is None and math.isnan(rate) for layer, rate in steps[:4])
    assert [rate for _, rate in steps[8:11]] == [.5 ** 4, 10 * .5 ** 4, .5 ** 4]


@pytest.mark.parametrize(('names', 'text'), [
    (['backbone.stages.2.0.gamma', 'backbone.stages.2.1.norm.bias', 'backbone.stages.2.5.gamma'],
     'backbone.stages.2.0-1,5'),
    (['backbone.downsample_layers.0.1.bias'], 'backbone.downsample_layers.0'),
    (['backbone.norm0.bias', 'backbone.norm3.bias', 'neck.convs.0.weight', 'roi_head.bbox_head.1.fc.bias'],
     'backbone.norm0,3, neck, roi_head'),
    (['other.stages.2.0.gamma'], 'other')])
def test_names_of_modules(names, text):
    assert view.name_modules(names, ['backbone.']) == text


# With the toolboxes.

def load(config, **options):
    for toolbox in ('mmdet', 'mmseg'):
        pytest.importorskip(toolbox, reason=f'the configs need {toolbox}')
    cfg = Config.fromfile(ROOT / 'configs' / config)
    cfg.merge_from_dict(options)
    return cfg


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    from matplotlib.figure import Figure
    saved, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, 'savefig', lambda self, *args, **kwargs: saved.append(self) or savefig(
        self, *args, **kwargs))
    return saved


@pytest.mark.parametrize('row', [published()['coco'][0], published()['ade20k'][-1]], ids=lambda row: row['config'])
def test_a_config(row, tmp_path, figures):
    text = view.show_config(load(row['config']), tmp_path / 'p.png')
    summary, header, *lines = text.splitlines()
    assert header.split() == ['layer', 'modules', 'parameters', 'scale', 'rate', 'weight', 'decay']
    total = 0
    for line in lines:
        layer, *_, parameters, scale, rate, decay = line.split()
        expected = row['decay_rate'] ** (row['num_layers'] + 1 - int(layer))
        assert (float(scale), float(rate)) == pytest.approx((expected, row['lr'] * expected), rel=1e-3)
        assert float(decay) in (0, row['weight_decay'])
        total += int(parameters.replace(',', ''))
    assert f'{total:,} parameters' in summary and round(total / 1e6) == row['params_m']
    left, right = figures[0].axes
    assert [line.get_label() for line in right.lines[:2]] == ['layer_wise', 'stage_wise']
    own, = (line for line in right.lines if line.get_label() == row['decay_type'])
    assert list(left.lines[0].get_ydata()) == pytest.approx(list(own.get_ydata()))
    assert list(right.lines[0].get_ydata()) != pytest.approx(list(right.lines[1].get_ydata()))
    assert Image.open(tmp_path / 'p.png').size == (1560, 600)
    assert [path.name for path in tmp_path.iterdir()] == ['p.png']


@pytest.mark.parametrize(('config', 'backbone', 'ids'), [
    ('imagenet/convnext_t_in22k_in1k.py', {}, LAYER_WISE),
    ('imagenet/convnext_s_in22k_in1k.py', {}, [0, *[1] * 3, *[2] * 4, 3, *[3 + b // 3 for b in range(27)], *[12] * 4,
                                               13]),
    # The paper has no fine-tuning of isotropic models.
    ('imagenet/convnext_t_in22k_in1k.py', dict(_delete_=True, type='convnext_mm.IsotropicConvNeXt', arch='small',
                                               out_norms=False), [*range(20)])])
def test_a_classifier(config, backbone, ids, tmp_path, figures):
    for toolbox in ('mmpretrain', 'timm'):
        pytest.importorskip(toolbox, reason=f'the config needs {toolbox}')
    cfg = load(config)
    cfg.merge_from_dict(dict(model=dict(backbone=backbone)))
    lines = view.show_config(cfg, tmp_path / 'p.png').splitlines()
    assert lines[0].startswith('layer decay 0.8, layer_wise; base rate 5e-05; ')
    rates = [5e-5 * .8 ** (ids[-1] - i) for i in ids]
    assert list(figures[0].axes[0].lines[0].get_ydata()) == pytest.approx(rates)
    assert lines[2].split()[:2] == ['0', 'backbone.stem' if backbone else 'backbone.downsample_layers.0']
    assert lines[-1].split()[:2] == [str(ids[-1]), 'head']


def test_a_backbone_that_cannot_be_built_without_memory(tmp_path):
    """mmpretrain's reads its drop path rates off a tensor."""
    pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')
    cfg = load('mask_rcnn/convnext_t_3x.py')
    cfg.model.backbone = dict(type='mmpretrain.ConvNeXt', arch='atto', out_indices=[0, 1, 2, 3], drop_path_rate=.1,
                              gap_before_final_norm=False)
    cfg.model.neck.in_channels = [40, 80, 160, 320]
    assert 'backbone.stages.2.3-5' in view.show_config(cfg, tmp_path / 'p.png')


def test_a_floor_is_drawn_and_said(tmp_path, figures):
    cfg = load('mask_rcnn/convnext_t_3x.py')
    cfg.param_scheduler = [dict(type='PolyLR', eta_min=8e-5), dict(type='CosineAnnealingLR', eta_min=1e-5)]
    text = view.show_config(cfg, tmp_path / 'p.png').splitlines()[-1]
    assert text.startswith('param_scheduler.0 (PolyLR) has eta_min=8e-05, but 6 of 16 groups')
    own, lifted = figures[0].axes[0].lines[:2]
    assert list(lifted.get_ydata()) == [max(rate, 8e-5) for rate in own.get_ydata()]
    assert 'PolyLR with eta_min=8e-05' in lifted.get_label()
    assert len([line for line in figures[0].axes[0].lines if 'eta_min' in str(line.get_label())]) == 1


PLAIN = "model = dict(type='ResNet', depth=18)\noptim_wrapper = dict(optimizer=dict(type='SGD', lr=.1))\n"
MISTAKES = [
    (PLAIN, 'p.png', "c.py has no optim_wrapper.constructor, so no layer decay: .*'convnext_mm.LayerDecay"),
    ('imagenet/convnext_t_in1k.py', 'p.png', 'convnext_t_in1k.py has no optim_wrapper.constructor, so no layer decay'),
    (PLAIN.replace('dict(opt', "dict(constructor='Other', opt"), 'p.png',
     'c.py has optim_wrapper.constructor=Other, so no'),
    ("optim_wrapper = dict(constructor='convnext_mm.LayerDecayOptimWrapperConstructor')", 'p.png', 'c.py has no model'),
    (None, 'c.py/p.png', "--out '.*c.py/p.png' cannot be written: .*c.py is not a folder"),
    (None, 'p.pdf', "--out '.*p.pdf' must end in .png"),
    (None, 'gone.py', "config 'gone.py' does not exist")]


@pytest.mark.parametrize(('config', 'out', 'message'), MISTAKES)
def test_mistakes_are_one_line(config, out, message, tmp_path, capsys):
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    (tmp_path / 'c.py').write_text(config or '')
    whole = 'gone.py' if out == 'gone.py' else ROOT / 'configs/mask_rcnn/convnext_t_3x.py'
    if str(config).endswith('.py'):
        whole, config = ROOT / 'configs' / config, None
    file = tmp_path / 'c.py' if config else whole
    assert run_command('show_layer_decay', [str(file), '--out', str(tmp_path / out)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, last), last
    assert [path.name for path in tmp_path.iterdir()] == ['c.py']
