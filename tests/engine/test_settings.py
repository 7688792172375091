"""Command lines become configs: every argument does what it says, every mistake is one line and exit code 2."""
import datetime
import os
import re
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from mmengine.config import Config

from convnext_mm.apis import test, train
from convnext_mm.apis.config import load_config
from convnext_mm.checkpoint import files
from convnext_mm.engine import settings
from convnext_mm.engine.resume import set_resume
from convnext_mm.engine.runner import build
from convnext_mm.engine.step_size import set_step_size
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_work_dir
from tests.helpers.paths import ROOT

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

CASCADE, UPERNET = 'configs/cascade/convnext_t_3x.py', 'configs/upernet/convnext_t_512_160k.py'
LARGE = 'configs/cascade/convnext_l_in22k_3x.py'


def config(path=CASCADE, **arguments):
    return load_config(Namespace(**{
        'config': str(ROOT / path), 'work_dir': None, 'cfg_options': None, 'launcher': 'none', 'strategy': None,
        **arguments}),
        'test_dataloader')


@pytest.mark.parametrize(('given', 'expected'), [
    (None, 'work_dirs/cascade/convnext_t_3x'), ('out', 'out')])
def test_work_dir(given, expected):
    assert config(work_dir=given).work_dir == expected


def test_work_dirs_of_the_leaves_differ():
    leaves = [p.relative_to(ROOT) for family in ('cascade', 'mask_rcnn', 'upernet')
              for p in ROOT.glob(f'configs/{family}/convnext_*.py')]
    assert len({config(leaf).work_dir for leaf in leaves}) == len(leaves) == 13


@pytest.mark.parametrize(('leaf', 'dtype', 'scale'), [
    ('configs/cascade/convnext_xl_in22k_3x.py', 'bfloat16', 1.0),
    ('configs/upernet/convnext_l_in22k_640_160k.py', 'bfloat16', 1.0)])
def test_amp_of_large_models_is_bfloat16(leaf, dtype, scale):
    cfg = config(leaf)
    settings.set_amp(cfg)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.dtype, cfg.optim_wrapper.loss_scale) == (
        'AmpOptimWrapper', dtype, scale)


def test_amp_leaves_mixed_precision_as_it_is():
    cfg = config(cfg_options={'optim_wrapper.dtype': 'bfloat16', 'optim_wrapper.loss_scale': 1.})
    settings.set_amp(cfg)
    assert (cfg.optim_wrapper.dtype, cfg.optim_wrapper.loss_scale) == ('bfloat16', 1.)


def test_without_accelerator_training_runs_in_float32_with_bn(monkeypatch, capsys):
    cfg, kept = config(), []
    monkeypatch.setattr(settings, 'keep_freed_memory', lambda: kept.append(True))
    monkeypatch.setattr(settings, 'get_device', lambda: 'cuda')
    settings.fit_to_device(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert 'SyncBN' in str(cfg.model) and not kept
    monkeypatch.setattr(settings, 'get_device', lambda: 'cpu')
    settings.fit_to_device(cfg)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert 'loss_scale' not in cfg.optim_wrapper
    assert 'SyncBN' not in str(cfg.model) and kept


# A checkpoint of iteration 3 in the work dir or elsewhere; with none, a run starts from the weights of the config.
@pytest.mark.parametrize(('given', 'before', 'in_work_dir', 'resume', 'load_from'), [
    (None, False, True, False, 'x.pth'), (None, True, True, True, 'x.pth'), ('auto', False, True, True, 'iter_3.pth'),
    ('auto', False, False, False, 'x.pth'), ('iter_3.pth', False, True, True, 'iter_3.pth')])
def test_resume(tmp_path, given, before, in_work_dir, resume, load_from):
    torch.save(dict(meta=dict(iter=3, seed=77), state_dict={}, optimizer={}), tmp_path / 'iter_3.pth')
    cfg = config(cfg_options=dict(load_from='x.pth', resume=before))
    cfg.work_dir = str(tmp_path if in_work_dir else tmp_path / 'other')
    set_resume(cfg, given and given.replace('iter', f'{tmp_path}/iter'))
    assert (cfg.resume, cfg.load_from) == (resume, load_from.replace('iter', f'{tmp_path}/iter'))
    # All of a run's randomness follows from its seed.
    assert cfg.get('randomness', {}).get('seed') == (77 if 'iter' in load_from else None)


def test_deterministic():
    for options, seed in (({}, 0), ({'randomness.seed': 5}, 5)):
        cfg = config(cfg_options=options)
        settings.set_deterministic(cfg)
        assert (cfg.randomness.deterministic, cfg.randomness.seed) == (True, seed)


@pytest.mark.parametrize('path', ['/proc/work', 'file/work'])
def test_a_work_dir_that_cannot_be_written_to(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=f"work dir '{path}' cannot be written to"):
        check_work_dir(path)


def test_tta_is_the_official_protocol():
    for leaf, long, short in ((UPERNET, 2048, 512), ('configs/upernet/convnext_b_in22k_640_160k.py', 2560, 640)):
        cfg = config(leaf)
        settings.set_tta(cfg)
        assert cfg.model.type == 'SegTTAModel'
        assert cfg.model.module.test_cfg.mode == 'whole'
        resizes, flips = cfg.test_dataloader.dataset.pipeline[-1].transforms[:2]
        assert [tuple(r.scale) for r in resizes] == [
            (int(long * r), int(short * r)) for r in (.5, .75, 1., 1.25, 1.5, 1.75)]
        assert all(r.type == 'Resize' and r.keep_ratio for r in resizes)
        assert len(flips) == 2


def test_show_dir():
    for leaf in (CASCADE, UPERNET):
        before, cfg = config(leaf), config(leaf)
        settings.set_show_dir(cfg, 'pictures')
        assert cfg.custom_hooks == [*before.custom_hooks,
                                    dict(type='convnext_mm.PredictionPicturesHook', out_dir='pictures')]
        assert (cfg.default_hooks, cfg.visualizer) == (before.default_hooks, before.visualizer)


MISTAKES = [
    (lambda: config('configs/none.py'), r"config '.*none\.py' does not exist"),
    (lambda: config('configs/_base_/models/upernet.py'), 'has no test_dataloader'),
    (lambda: config(cfg_options={'model.roi_head.bbox_head.9.num_classes': 2}), '--cfg-options .*does not fit'),
    (lambda: config(cfg_options={'train_dataloader.dataset.pipeline.0': 3}), '--cfg-options .*does not fit'),
    (lambda: set_resume(config(), 'gone.pth'), "--resume 'gone.pth' does not exist"),
    (lambda: settings.set_tta(config()), '--tta is not possible.*masks'),
    (lambda: settings.set_amp(config(LARGE, cfg_options={'amp_dtype': 'int8'})),
     'amp_dtype.*float16 or bfloat16.*int8'),
    (lambda: settings.set_amp(config(cfg_options={'optim_wrapper.type': 'Own'})), '--amp needs .*Own'),
    (lambda: set_step_size(config(cfg_options={'auto_scale_lr': dict(_delete_=True, enable=False)}), None, True),
     '--auto-scale-lr needs auto_scale_lr.base_batch_size'),
]


@pytest.mark.parametrize(('call', 'message'), MISTAKES)
def test_mistakes(call, message):
    with pytest.raises(UserError, match=message):
        call()


class Started(Exception):
    """Raised with the config in place of a run."""


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Call train or test by a command line up to the runner, and return the config that it would get."""
    monkeypatch.setattr(settings, 'get_device', lambda: 'cuda')
    monkeypatch.chdir(tmp_path)
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'a.pth')

    def build(cfg, trust):
        raise Started(cfg, trust)

    def call(action, leaf, **arguments):
        for module in (train, test):
            monkeypatch.setattr(module, 'check_data', lambda cfg, splits: None)
            monkeypatch.setattr(module, 'build_runner', build)
        defaults = dict(config=str(ROOT / leaf), work_dir=None, cfg_options=None, launcher='none', strategy=None,
                        resume=None, resume_with='checkpoint', amp=False, auto_scale_lr=False, trust_checkpoint=False,
                        checkpoint=str(tmp_path / 'a.pth'), tta=False, show_dir=None, out=None, reference='auto',
                        precision='float32', deterministic=False, effective_batch_size=None)
        with pytest.raises(Started) as info:
            action(Namespace(**{**defaults, **arguments}))
        return info.value.args

    return call


def test_train_passes_its_arguments_on(start):
    cfg, trust = start(train.main, LARGE)
    assert (cfg.optim_wrapper.type, cfg.get('randomness'), cfg.resume, trust) == ('OptimWrapper', None, False, False)
    rate = cfg.optim_wrapper.optimizer.lr
    assert cfg.train_cfg.type == 'convnext_mm.EpochBasedTrainLoop' and cfg.train_cfg.accumulation == 1
    assert cfg.default_hooks.checkpoint.type == 'convnext_mm.CheckpointHook'
    assert 'convnext_mm.InterruptionHook' in [hook.type for hook in cfg.custom_hooks]
    cfg, trust = start(train.main, LARGE, amp=True, auto_scale_lr=True, effective_batch_size=32, deterministic=True,
                       trust_checkpoint=True)
    assert (cfg.optim_wrapper.type, cfg.optim_wrapper.accumulative_counts, trust) == ('AmpOptimWrapper', 16, True)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2 * rate)
    assert cfg.randomness.deterministic


@pytest.mark.parametrize('resume', ['auto', 'runs/iter_3.pth'])
def test_a_checkpoint_that_is_trusted_is_resumed(start, monkeypatch, tmp_path, resume):
    monkeypatch.setattr(files, '_trust_pickles', False)
    os.mkdir('runs')
    torch.save(dict(state_dict={}, optimizer={}, meta=dict(iter=3, made=datetime.date(2026, 1, 1))), 'runs/iter_3.pth')
    arguments = dict(work_dir='runs', resume=resume)
    cfg, _ = start(train.main, LARGE, trust_checkpoint=True, **arguments)
    assert cfg.resume and cfg.load_from == 'runs/iter_3.pth'
    with pytest.raises(UserError, match='trust-checkpoint|damaged'):
        start(train.main, LARGE, **arguments)


def test_test_passes_its_arguments_on(start, tmp_path, monkeypatch):
    cfg, _ = start(test.main, UPERNET)
    assert (cfg.model.type, cfg.load_from) == ('EncoderDecoder', str(tmp_path / 'a.pth'))
    out = str(tmp_path / 'masks')
    cfg, trust = start(test.main, UPERNET, tta=True, show_dir='pictures', out=out, trust_checkpoint=True)
    assert (cfg.model.type, cfg.custom_hooks[-1].out_dir, trust) == ('SegTTAModel', 'pictures', True)
    evaluator, = cfg.test_evaluator
    assert (evaluator.type, evaluator.out, evaluator.info.protocol) == ('convnext_mm.IoUMetric', out, 'multi-scale')
    assert 'precision' not in evaluator.info
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: True)
    cfg, _ = start(test.main, UPERNET, out=out, precision='bfloat16')
    assert cfg.test_evaluator[0].info.precision == 'bfloat16'
    cfg, _ = start(test.main, CASCADE, out=str(tmp_path / 'p.json'))
    assert [e.type for e in cfg.test_evaluator] == ['convnext_mm.CocoMetric']
    cfg, _ = start(test.main, CASCADE, out=str(tmp_path / 'p.pkl'))
    assert [e.type for e in cfg.test_evaluator] == ['convnext_mm.CocoMetric', 'mmdet.DumpDetResults']
    assert 'out' not in cfg.test_evaluator[0]


def test_nothing_is_fetched_before_the_data_is_known_to_be_there(start, monkeypatch):
    def missing(cfg, splits):
        raise Started('no data')
    monkeypatch.setattr('convnext_mm.checkpoint.download.fetch', lambda url: pytest.fail('fetched too early'))
    monkeypatch.setattr(test, 'check_backbone', lambda cfg: monkeypatch.setattr(test, 'check_data', missing))
    start(test.main, CASCADE, checkpoint='cascade_mask_rcnn_convnext_tiny_1k_3x')
    with pytest.raises(UserError, match='no_such_name'):
        test.main(Namespace(config=str(ROOT / CASCADE), work_dir=None, cfg_options=None, launcher='none',
                                  strategy=None, checkpoint='no_such_name', reference='auto'))


def test_every_run_reads_and_writes_checkpoints_safely(monkeypatch):
    monkeypatch.setattr(build.Runner, 'from_cfg', lambda cfg: cfg)
    hook = dict(type='convnext_mm.SafeCheckpointHook')
    assert build.build_runner(config()).custom_hooks == [hook]
    cfg = config(cfg_options=dict(custom_hooks=[dict(type='EMAHook')]))
    assert build.build_runner(cfg).custom_hooks == [dict(type='EMAHook'), hook]


def test_processes_on_a_cpu(monkeypatch):
    """DDP on a CPU wants no device ids; a wrapper of the user's own stays."""
    monkeypatch.setattr(settings, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(settings.torch.distributed, 'is_initialized', lambda: True)
    cfg = config(launcher='pytorch', cfg_options=dict(find_unused_parameters=True))
    settings.fit_to_device(cfg)
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.model_wrapper_cfg.find_unused_parameters
    cfg = config(launcher='pytorch', cfg_options=dict(model_wrapper_cfg=dict(type='Own')))
    settings.fit_to_device(cfg)
    assert cfg.model_wrapper_cfg == dict(type='Own')


@pytest.mark.parametrize('kind', ['AmpOptimWrapper', 'mmengine.AmpOptimWrapper', Config])
def test_type_names(kind):
    assert type_name(dict(type=kind)) == ('Config' if kind is Config else 'AmpOptimWrapper')


def test_a_config_that_raises(tmp_path):
    (tmp_path / 'c.py').write_text('model = 1 / 0')
    with pytest.raises(UserError, match='cannot be read: ZeroDivisionError'):
        config(tmp_path / 'c.py')


@pytest.mark.parametrize(('command', 'message'), [
    (['train.py', 'none.py'], "train.py: error: config 'none.py' does not exist"),
    (['train.py', CASCADE], 'train.py: error: data/coco/.* does not exist .*make demo'),
    (['test.py', UPERNET, 'gone.pth'], "test.py: error: checkpoint 'gone.pth' is no file that exists"),
    (['train.py'], 'train.py: error: the following arguments are required: config'),
    (['train.py', CASCADE, '--cfg-options', 'seed'],
     "train.py: error: argument --cfg-options: 'seed' is not KEY=VALUE"),
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


@pytest.mark.parametrize(('loader', 'said'), [
    (dict(num_workers=2, persistent_workers=True, prefetch_factor=4), None),
    (dict(num_workers=0, persistent_workers=False, prefetch_factor=None), None),
    (dict(num_workers=0), None),
    (dict(num_workers=0, persistent_workers=True), 'persistent_workers=True is left out'),
    (dict(persistent_workers=True), 'persistent_workers=True is left out'),
    (dict(num_workers=0, prefetch_factor=4, persistent_workers=True, timeout=9),
     r'train_dataloader\.num_workers=0 .*persistent_workers=True and prefetch_factor=4 and timeout=9 are left out')])
def test_without_workers(loader, said, monkeypatch):
    cfg, lines = Config(dict(train_dataloader=dict(loader), val_dataloader=None)), []
    monkeypatch.setattr(settings, 'print_log', lambda line, logger: lines.append(line))
    settings.fit_workers(cfg)
    assert len(lines) == bool(said)
    if said:
        assert re.search(said, lines[0])
    # torch takes what is left.
    torch.utils.data.DataLoader([1, 2], **cfg.train_dataloader)
    if not said:
        assert cfg.train_dataloader == loader
