"""The counted costs are the published ones."""
import json
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from convnext_mm.apis.cli import main as run_command
from convnext_mm.evaluation.cost import _count_row, count_classifier, count_macs, format_published
from convnext_mm.published.paper import published
from convnext_mm.utils.errors import UserError
from tests.helpers.paths import ROOT

IMAGENET = {(r['arch'], r['resolution'], r['flops_g'], r['params_m']) for r in published()['imagenet']}


@pytest.mark.parametrize(('module', 'shape', 'macs'), [
    (torch.nn.Conv2d(3, 8, 3, padding=1), (1, 3, 10, 20), 8 * 3 * 9 * 200),
    (torch.nn.Conv2d(8, 8, 7, padding=3, groups=8), (1, 8, 10, 20), 8 * 49 * 200),
    (torch.nn.ConvTranspose2d(4, 2, 2, stride=2), (1, 4, 5, 5), 4 * 2 * 4 * 25),
    (torch.nn.Linear(16, 4), (7, 16), 16 * 4 * 7),
    (torch.nn.Linear(16, 4), (2, 7, 16), 16 * 4 * 14),
    (torch.nn.BatchNorm2d(3), (2, 3, 8, 8), 0)])
def test_counts_of_single_layers(module, shape, macs):
    assert count_macs(module.to('meta'), torch.empty(shape, device='meta'))[0] == macs


@pytest.mark.parametrize(('arch', 'resolution', 'flops', 'parameters'), sorted(IMAGENET))
def test_classifiers(arch, resolution, flops, parameters):
    """Exact to the printed digit, but for B at 384 from ImageNet-1K, of which 45.0 is printed."""
    cost = count_classifier(arch, resolution)
    right = 45.1 if (arch, resolution, flops) == ('base', 384, 45.0) else flops
    assert (f'{cost.total / 1e9:.1f}', f'{cost.parameters / 1e6:.0f}') == (f'{right:.1f}', f'{parameters}')


def test_table_9():
    """What the paper's table 9 prints of ConvNeXt-T."""
    cost = count_classifier('tiny', 224)
    assert (f'{cost.total / 1e9:.1f}', f'{cost.parameters / 1e6:.1f}') == ('4.5', '28.6')


def test_what_the_sources_contradict_is_said_in_the_table():
    rows = [_count_row(row, lambda name: None) for row in published()['imagenet'] if row['resolution'] == 384]
    notes = {row['name']: row['note'] for row in rows if row['note']}
    assert {*notes} == {'base at 384, ImageNet-1K', 'base at 384, ImageNet-22K'}
    assert notes['base at 384, ImageNet-1K'].startswith('the paper prints 45.0, ')
    assert 'its repository 47.0; 45.1 is right' in notes['base at 384, ImageNet-22K']
    text = format_published(rows)
    assert all(f'{name} (*)' in text and f'(*) {name}: {note}' in text for name, note in notes.items())


@pytest.mark.parametrize('row', published()['coco'] + published()['ade20k'], ids=lambda r: r['config'])
def test_published_costs(row):
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    from convnext_mm.evaluation.cost import count_config
    counted = count_config(Config.fromfile(ROOT / 'configs' / row['config']))
    assert list(counted['shape']) == row['flops_shape']
    assert round(counted['parameters'] / 1e6) == row['params_m']
    assert counted['macs'] / 1e9 == pytest.approx(row['flops_g'], rel=.002)


@pytest.mark.parametrize(('config', 'parts'), [
    # mmdet's page says 239.32 with the normalisations; it counts a multiplication and an addition as one.
    ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', {'backbone': 83.4, 'neck': 17.3, 'bbox_head': 137.8}),
    ('mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py', {'backbone', 'decode_head'}),
    ('mmdet::yolox/yolox_s_8xb8-300e_coco.py', {'backbone', 'neck', 'bbox_head'}),
    ('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', {'backbone', 'neck', 'rpn_head', 'bbox_head', 'mask_head'}),
    ('mmdet::detr/detr_r50_8xb2-150e_coco.py', 'the cost of DETRHead cannot be counted by .*: TypeError'),
    ('mmdet::solo/solo_r50_fpn_1x_coco.py', 'the cost of SOLO cannot be counted: not that of its mask_head'),
    ('mmdet::sabl/sabl-cascade-rcnn_r50_fpn_1x_coco.py', 'the cost of SABLHead cannot be counted: it does not name'),
    ('mmdet::qdtrack/qdtrack_faster-rcnn_r50_fpn_4e_base.py', 'QDTrack cannot be counted: not that of its detector'),
    ('mmdet::common/lsj-100e_coco-detection.py', 'lsj-100e_coco-detection.py has no model')])
def test_costs_of_other_models(config, parts):
    """Every part that predicts is counted, or the model is refused: no total leaves a part out silently."""
    pytest.importorskip('mmdet', reason='mmdet is not installed')
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    from convnext_mm.apis.config import read_config
    from convnext_mm.evaluation.cost import count_config
    if isinstance(parts, str):
        with pytest.raises(UserError, match=parts):
            count_config(read_config(config))
        return
    counted = count_config(read_config(config), (800, 1280))
    assert {*counted['parts']} == {*parts} and all(counted['parts'].values())
    for part in parts if isinstance(parts, dict) else ():
        assert counted['parts'][part] / 1e9 == pytest.approx(parts[part], abs=.06)


def test_tool_prints_json():
    pytest.importorskip('mmseg', reason='mmseg is not installed')
    command = [sys.executable, 'tools/get_flops.py', 'configs/upernet/convnext_t_512_160k.py', '--json',
               '--shape', '64', '64']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    counted = json.loads(result.stdout)
    assert counted['shape'] == [64, 64]
    assert counted['macs'] == sum(counted['parts'].values())


@pytest.mark.parametrize('arguments', [[], ['--all', 'x.py'], ['--all', '--shape', '64', '64'], ['x.py'],
                                       ['x.py', '--shape', '31', '64'], ['x.py', '--shape', '64', 'a']])
def test_tool_refuses(arguments, capsys):
    try:
        code = run_command('get_flops', arguments)
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr().err
    assert (code, len(said.strip().splitlines())) == (2, 1), said
