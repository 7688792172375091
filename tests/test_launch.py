"""Command lines become configs: every argument does what it says, every mistake is one line and exit code 2."""
import os
import re
import subprocess
import sys
from argparse import Namespace

import pytest
from conftest import ROOT

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

from convnext_mm import launch  # noqa: E402
from convnext_mm.errors import UserError  # noqa: E402

CASCADE, UPERNET = 'configs/cascade/convnext_t_3x.py', 'configs/upernet/convnext_t_512_160k.py'


def config(path=CASCADE, **arguments):
    return launch.load_config(Namespace(**{
        'config': str(ROOT / path), 'work_dir': None, 'cfg_options': None, 'launcher': 'none', **arguments}))


@pytest.mark.parametrize(('given', 'expected'), [
    (None, 'work_dirs/cascade/convnext_t_3x'), ('out', 'out')])
def test_work_dir(given, expected):
    assert config(work_dir=given).work_dir == expected


def test_work_dirs_of_the_leaves_differ():
    leaves = [p.relative_to(ROOT) for p in ROOT.glob('configs/*/convnext_*.py')]
    assert len({config(leaf).work_dir for leaf in leaves}) == len(leaves) == 13


@pytest.mark.parametrize(('leaf', 'dtype', 'scale'), [
    (CASCADE, 'float16', 'dynamic'), ('configs/cascade/convnext_xl_in22k_3x.py', 'bfloat16', 1.0),
    ('configs/upernet/convnext_l_in22k_640_160k.py', 'bfloat16', 1.0)])
def test_amp(leaf, dtype, scale):
    cfg = config(leaf)
    launch.set_amp(cfg)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.dtype, cfg.optim_wrapper.loss_scale) == (
        'AmpOptimWrapper', dtype, scale)


def test_without_accelerator_training_runs_in_float32_with_bn(monkeypatch, capsys):
    cfg = config()
    monkeypatch.setattr(launch, 'get_device', lambda: 'cuda')
    launch.fit_to_device(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert 'SyncBN' in str(cfg.model)
    monkeypatch.setattr(launch, 'get_device', lambda: 'cpu')
    launch.fit_to_device(cfg)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert 'loss_scale' not in cfg.optim_wrapper
    assert 'SyncBN' not in str(cfg.model)


@pytest.mark.parametrize(('given', 'resume', 'load_from'), [(None, False, 'x.pth'), ('auto', True, None)])
def test_resume(given, resume, load_from):
    cfg = config(cfg_options=dict(load_from='x.pth'))
    launch.set_resume(cfg, given)
    assert (cfg.resume, cfg.load_from) == (resume, load_from)


def test_resume_from_a_file(tmp_path):
    file, cfg = tmp_path / 'a.pth', config()
    file.touch()
    launch.set_resume(cfg, str(file))
    assert (cfg.resume, cfg.load_from) == (True, str(file))


def test_tta_is_the_official_protocol():
    for leaf, long, short in ((UPERNET, 2048, 512), ('configs/upernet/convnext_b_in22k_640_160k.py', 2560, 640)):
        cfg = config(leaf)
        launch.set_tta(cfg)
        assert cfg.model.type == 'SegTTAModel'
        assert cfg.model.module.test_cfg.mode == 'whole'
        resizes, flips = cfg.test_dataloader.dataset.pipeline[-1].transforms[:2]
        assert [tuple(r.scale) for r in resizes] == [
            (int(long * r), int(short * r)) for r in (.5, .75, 1., 1.25, 1.5, 1.75)]
        assert all(r.type == 'Resize' and r.keep_ratio for r in resizes)
        assert len(flips) == 2


def test_out_and_show_dir(tmp_path):
    cfg = config()
    launch.set_out(cfg, 'a.pkl')
    assert [e.type for e in cfg.test_evaluator] == ['CocoMetric', 'DumpDetResults']
    launch.set_show_dir(cfg, 'pictures')
    assert (cfg.default_hooks.visualization.draw, cfg.default_hooks.visualization.test_out_dir) == (True, 'pictures')
    cfg = config(UPERNET)
    launch.set_out(cfg, str(tmp_path))
    evaluator, = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    assert (evaluator.output_dir, evaluator.keep_results) == (str(tmp_path), True)
    launch.set_show_dir(cfg, 'pictures')
    assert (cfg.default_hooks.visualization.draw, cfg.visualizer.save_dir) == (True, 'pictures')


MISTAKES = [
    (lambda: config('configs/none.py'), r"config '.*none\.py' does not exist"),
    (lambda: config('configs/_base_/models/upernet.py'), "has no 'test_dataloader'"),
    (lambda: config(cfg_options={'model.roi_head.bbox_head.9.num_classes': 2}), '--cfg-options .*does not fit'),
    (lambda: launch.set_resume(config(), 'gone.pth'), "--resume 'gone.pth' does not exist"),
    (lambda: launch.set_out(config(), 'folder'), "--out 'folder'.*detector.*pkl"),
    (lambda: launch.set_out(config(UPERNET), 'a.pkl'), "--out 'a.pkl'.*segmentor.*folder"),
    (lambda: launch.set_tta(config()), '--tta is not possible.*masks'),
    (lambda: launch.set_amp(config(cfg_options={'amp_dtype': 'int8'})), "amp_dtype.*float16 or bfloat16.*'int8'"),
    (lambda: launch.set_amp(config(cfg_options={'optim_wrapper.type': 'Own'})), '--amp needs .*Own'),
    (lambda: launch.set_auto_scale_lr(config(cfg_options={'auto_scale_lr': dict(_delete_=True, enable=False)})),
     '--auto-scale-lr needs auto_scale_lr.base_batch_size'),
]


@pytest.mark.parametrize(('call', 'message'), MISTAKES)
def test_mistakes(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_a_config_that_raises(tmp_path):
    (tmp_path / 'c.py').write_text('model = 1 / 0')
    with pytest.raises(UserError, match='cannot be read: ZeroDivisionError'):
        config(tmp_path / 'c.py')


@pytest.mark.parametrize(('command', 'message'), [
    (['train.py', 'none.py'], "train.py: error: config 'none.py' does not exist"),
    (['train.py', CASCADE], 'train.py: error: data/coco/.* does not exist .*make demo'),
    (['test.py', UPERNET, 'gone.pth'], "test.py: error: checkpoint 'gone.pth' does not exist"),
    (['train.py'], 'train.py: error: the following arguments are required: config'),
    (['train.py', CASCADE, '--launcher', 'ship'], "train.py: error: argument --launcher: invalid choice: 'ship'"),
])
def test_tools_answer_in_one_line_with_exit_code_2(command, message, tmp_path):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    result = subprocess.run([sys.executable, str(ROOT / 'tools' / command[0]), *command[1:]], cwd=tmp_path,
                            capture_output=True, text=True, env={**os.environ, 'PYTHONWARNINGS': 'ignore'})
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert re.match(message, result.stderr), result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ['configs'], 'nothing is written'
