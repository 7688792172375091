"""The written config and the tool: what loads, what is printed, what is refused without a trace."""
import re
import warnings

import pytest
from mmengine.config import Config

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

from convnext_mm.apis.cli import main as run_command
from convnext_mm.swap.edits import plain
from convnext_mm.swap.leaf import format_leaf
from convnext_mm.swap.swap import swap
from convnext_mm.swap.verify import verify
from convnext_mm.swap.write import write_config
from convnext_mm.utils.config_files import find_config
from convnext_mm.utils.errors import UserError

RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
DEEPLAB = 'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py'
NAMES = [RETINANET, DEEPLAB, 'mmdet::faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
         'mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py', 'mmdet::ssd/ssd300_coco.py',
         'mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',
         'mmseg::ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024.py',
         'mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py']


def swapped(name, **arguments):
    return swap(Config.fromfile(find_config(name)), **arguments)


def without_scopes(node):
    if isinstance(node, dict):
        return {key: without_scopes(value) for key, value in node.items() if key != '_scope_'}
    return type(node)(map(without_scopes, node)) if isinstance(node, (list, tuple)) else node


@pytest.mark.parametrize('full', [False, True])
@pytest.mark.parametrize('name', NAMES, ids=lambda v: v.split('/')[-1])
def test_what_is_written_loads_as_the_swapped_config(name, full, tmp_path):
    result, file = swapped(name), tmp_path / 'new' / 'convnext.py'
    write_config(result, name, file, full)
    assert [p.name for p in file.parent.iterdir()] == ['convnext.py']
    assert without_scopes(plain(Config.fromfile(file).to_dict())) == without_scopes(plain(result.config.to_dict()))
    text = file.read_text()
    assert bool(re.search('^_base_ =', text, re.M)) != full
    if not full:
        lines = text.splitlines()
        assert all(len(line) <= 120 for line in lines if '_base_' not in line)
        assert lines[0].endswith('with a ConvNeXt-T backbone."""')
        assert text.index('backbone=dict(') < text.find('in_channels=', text.index('model =')) % len(text)


def test_a_leaf_is_short_and_says_why():
    leaf = format_leaf(swapped(RETINANET), 'base.py')
    assert len(leaf.splitlines()) < 35
    assert '    # channels of the maps that it reads\n    panoptic_head=dict(in_channels=[96, 192, 384, 768]))\n' in \
        format_leaf(swapped('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'), 'base.py')
    assert 'neck=dict(' in leaf and 'in_channels=[192, 384, 768]' in leaf
    assert '# only what is read is emitted' in leaf
    assert '_delete_=True' in leaf
    assert 'bbox_head' not in leaf and 'param_scheduler' not in leaf


def test_a_base_of_ones_own_is_named_by_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').mkdir()
    mine = tmp_path / 'configs' / 'mine.py'
    mine.write_text(f'_base_ = {str(find_config(RETINANET))!r}\n')
    write_config(swap(Config.fromfile(mine)), str(mine), 'new/leaf.py')
    assert "_base_ = '../configs/mine.py'" in (tmp_path / 'new' / 'leaf.py').read_text()


@pytest.mark.parametrize(('target', 'message'), [('new.txt', 'name of a config'), ('mine.py', 'original config'),
                                                 ('file/new.py', 'cannot be written')])
def test_bad_targets(target, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    (tmp_path / 'mine.py').write_text(f'_base_ = {str(find_config(RETINANET))!r}\n')
    with pytest.raises(UserError, match=message):
        write_config(swap(Config.fromfile('mine.py')), 'mine.py', target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['file', 'mine.py']


def tool(*arguments):
    return run_command('swap_backbone', [*map(str, arguments)])


def test_the_tool_shows_tries_and_writes(tmp_path, capsys, monkeypatch, recwarn):
    def noisy(config):
        print('a toolbox was imported')
        warnings.warn('and has something to say', stacklevel=1)
        return verify(config)
    monkeypatch.setattr('convnext_mm.apis.swap_backbone.verify', noisy)
    file = tmp_path / 'new.py'
    assert tool('mmdet::yolox/yolox_s_8xb8-300e_coco.py', '--arch', 'atto', '--pretrained', 'none', '--keep-optimizer',
                '--out', file) == 0
    out = capsys.readouterr().out
    assert re.search(r'model.neck.in_channels +\[128, 256, 512\] +\[80, 160, 320\] +channels', out)
    assert 'imported' not in out and not any('something to say' in str(w.message) for w in recwarn)
    assert re.search(r'verified: .*loss \d.*3,37\d,\d+ backbone parameters', out)
    assert 'init_cfg' not in file.read_text() and 'optim_wrapper' not in file.read_text()


def test_the_tool_can_leave_out_the_trial_and_the_file(capsys):
    assert tool(DEEPLAB, '--no-verify', '--output-stride', 16, '--pretrained', 'convnextv2_tiny_in1k_ema') == 0
    out = capsys.readouterr().out
    assert 'not verified' in out and 'output_stride=16' in out and 'use_grn=True' in out


@pytest.mark.parametrize(('arguments', 'message'), [
    (['mmseg::unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py'], 'UNet'),
    ([RETINANET, '--pretrained', 'convnext_base_in1k'], "arch 'base'"),
    ([RETINANET, '--pretrained', 'convnext_tinny_in1k'], 'did you mean'),
    ([RETINANET, '--pretrained', 'nowhere/mine.pth'], 'nowhere/mine.pth'),
    ([RETINANET, '--arch', 'huge'], '--arch'), ([RETINANET, '--output-stride', '4'], '--output-stride'),
    ([RETINANET, '--out', 'new.txt'], '--out'), ([RETINANET, '--out', find_config(RETINANET)], '--out')])
def test_the_tool_refuses_in_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr('convnext_mm.apis.swap_backbone.verify', None)  # All of this is found before anything is built.
    try:
        code = tool(*arguments)
    except SystemExit as ended:  # argparse's
        code = ended.code
    assert code == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and 'error:' in error[0] and message in error[0]


def test_nothing_is_written_where_the_model_does_not_work(tmp_path, capsys):
    broken = tmp_path / 'broken.py'
    broken.write_text(f'_base_ = {str(find_config(RETINANET))!r}\nmodel = dict(bbox_head=dict(in_channels=128))\n')
    assert tool(broken, '--arch', 'atto', '--pretrained', 'none', '--out', tmp_path / 'new.py') == 2
    assert 'does not work' in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ['broken.py']
