"""Checkpoints of training runs: torch's safe mode reads them, runs resume from them, whole models are verified."""
import copy
import itertools

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner import Runner

from convnext_mm.checkpoint import files
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read
from convnext_mm.checkpoint.state_dicts import convert
from convnext_mm.engine.hooks.safe_checkpoint import _to_plain
from tests.helpers.checkpoints import Detector, detector, save

RUNS = itertools.count()
HOOK = [dict(type='convnext_mm.SafeCheckpointHook')]


@MMENGINE_MODELS.register_module()
class HookDetector(Detector):
    """A model that can be trained and tested."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        feature = self.neck(self.backbone(torch.stack(inputs))[0]).mean((2, 3))
        if mode == 'loss':
            return dict(loss=self.roi_head.bbox_head.fc_cls(feature).square().mean())
        return [dict(value=v) for v in feature.mean(1)]


@DATASETS.register_module()
class HookImages(torch.utils.data.Dataset):
    METAINFO = dict(classes=('a', 'b'), palette=[(0, 0, 0), (1, 1, 1)])
    metainfo = METAINFO

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return dict(inputs=torch.full((3, 32, 32), i / 4))


class Evaluator:
    """Gives numpy's numbers, as mmseg's metrics do."""

    dataset_meta = None

    def __init__(self):
        self.metrics = []

    def process(self, data_samples, data_batch=None):
        pass

    def evaluate(self, size):
        return dict(score=np.float64(.5))


def config(work_dir, epochs=2, hooks=HOOK, **kwargs):
    loader = dict(batch_size=2, num_workers=0, dataset=dict(type='HookImages'),
                  sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='pseudo_collate'))
    return Config(dict(
        model=dict(type='HookDetector'), work_dir=str(work_dir), experiment_name=f'run_{next(RUNS)}',
        train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        param_scheduler=[dict(type='LinearLR', start_factor=.1, by_epoch=False, end=3),
                         dict(type='MultiStepLR', by_epoch=False, milestones=[1, 3, 3])],
        val_dataloader=loader, val_cfg=dict(), val_evaluator=dict(),
        test_dataloader=loader, test_cfg=dict(), test_evaluator=dict(),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='score', rule='greater'),
                           logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[*hooks, dict(type='EMAHook')], log_level='ERROR', randomness=dict(seed=0), **kwargs))


def runner(cfg):
    built = Runner.from_cfg(cfg)
    built.build_evaluator = lambda evaluator: Evaluator()
    return built


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Work dirs of a run of two epochs with the hook, and of one without."""
    folder = tmp_path_factory.mktemp('runs')
    for name, hooks in (('with', HOOK), ('without', [])):
        runner(config(folder / name, hooks=hooks)).train()
    return folder


@pytest.mark.parametrize('name', ['epoch_1.pth', 'epoch_2.pth', 'best_score_epoch_1.pth'])
def test_torchs_safe_mode_reads_what_is_written(runs, name):
    content = torch.load(runs / 'with' / name, weights_only=True)
    assert {'state_dict', 'ema_state_dict', 'meta', 'message_hub'} <= content.keys()
    assert content['message_hub']['histories']['train/loss']['values'].shape == (2 * content['meta']['epoch'],)
    assert ('optimizer' in content) == name.startswith('epoch')
    assert content['meta']['dataset_meta'] == HookImages.METAINFO


def test_mmengine_alone_writes_more_than_that(runs):
    # What the hook is for; if this fails, mmengine has changed and the hook may have become needless.
    with pytest.raises(Exception, match='(?i)weights.only|unsupported'):
        torch.load(runs / 'without' / 'epoch_1.pth', weights_only=True)
    assert read(runs / 'without' / 'epoch_1.pth')['message_hub']['log_scalars']['train/loss'].data[0].shape == (2,)


@pytest.mark.parametrize('hooks', [HOOK, []])
@pytest.mark.parametrize('written', ['with', 'without'])
def test_a_run_resumes_as_if_it_had_not_stopped(runs, tmp_path, written, hooks):
    resumed = runner(config(tmp_path, hooks=hooks, load_from=str(runs / written / 'epoch_1.pth'), resume=True))
    resumed.train()
    assert resumed.epoch == 2
    whole = read(runs / 'with' / 'epoch_2.pth')
    again = read(tmp_path / 'epoch_2.pth')
    for part in ('state_dict', 'ema_state_dict'):
        assert whole[part].keys() == again[part].keys()
        for name, tensor in whole[part].items():
            assert torch.equal(again[part][name], tensor), name
    assert str(whole['optimizer']) == str(again['optimizer'])
    if hooks:
        values = [content['message_hub']['histories']['train/loss']['values'] for content in (whole, again)]
        assert torch.equal(*values)
        assert len(values[0]) == 4


def test_a_file_that_wants_more_is_refused_on_resume(runs, tmp_path):
    content = read(runs / 'with' / 'epoch_1.pth')
    content['meta']['extra'] = Evaluator()
    path = tmp_path / 'file.pth'
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r'wants \S*test_safe_checkpoint\.Evaluator'):
        runner(config(tmp_path, load_from=str(path), resume=True)).train()
    files.trust_pickles()
    try:
        runner(config(tmp_path, epochs=1, load_from=str(path), resume=True)).train()
    finally:
        files.trust_pickles(False)


@pytest.mark.parametrize('task', ['train', 'test'])
def test_load_from(task, tmp_path):
    source = detector(1)
    path = save(convert(source.state_dict(), 'mmpretrain'), tmp_path / 'file.pth', 'state_dict')
    built = runner(config(tmp_path, epochs=1, load_from=path))
    loaded = {}
    built.register_hook(Spy(loaded))
    getattr(built, task)()
    for name, tensor in source.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


class Spy(Hook):
    """Notes the weights that a run starts with."""

    def __init__(self, loaded):
        self.loaded = loaded

    def before_train(self, runner):
        self.loaded.update(copy.deepcopy(runner.model.state_dict()))

    before_test = before_train


def test_classes_may_differ_in_training_alone(tmp_path):
    path = str(tmp_path / 'file.pth')
    torch.save({'state_dict': detector(1, classes=3).state_dict(), 'meta': {'epoch': 1, 'iter': 2}}, path)
    cfg = config(tmp_path, epochs=1, load_from=path)
    runner(copy.deepcopy(cfg)).train()
    with pytest.raises(CheckpointError, match='another number of classes than the config'):
        runner(copy.deepcopy(cfg)).test()
    with pytest.raises(CheckpointError, match='another number of classes than the config'):
        runner(config(tmp_path, load_from=path, resume=True)).train()


@pytest.mark.parametrize(('content', 'words'), [
    ({'epoch': 1}, 'holds no state dict'), ({'a': torch.ones(1)}, "holds nothing under prefix 'backbone.'")])
def test_files_of_something_else(content, words, tmp_path):
    path = str(tmp_path / 'file.pth')
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f'{path}: {words}'):
        runner(config(tmp_path, epochs=1, load_from=path)).train()


def test_the_hook_may_stand_twice(tmp_path):
    runner(config(tmp_path, epochs=1, hooks=HOOK * 2)).train()
    assert read(tmp_path / 'epoch_1.pth')['message_hub']['histories']['train/loss']['values'].shape == (2,)


def test_weights_alone_are_nothing_to_resume(tmp_path):
    path = save(detector(1).state_dict(), tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match='holds weights alone, so there is no run to resume'):
        runner(config(tmp_path, load_from=path, resume=True)).train()


@pytest.mark.parametrize('task', ['train', 'test'])
def test_heads_are_strict(task, tmp_path):
    state_dict = detector(1).state_dict()
    del state_dict['neck.bias']
    path = save(state_dict, tmp_path / 'file.pth', 'state_dict')
    with pytest.raises(CheckpointError, match=f'{path}: 1 missing: neck.bias'):
        getattr(runner(config(tmp_path, epochs=1, load_from=path)), task)()


def test_plain_content():
    content = dict(a=np.float32(.5), b=np.arange(3), c=[(np.int64(1), 'x')], d={np.int64(4): None, 'e': {1}},
                   f=torch.ones(1), g=Evaluator(), h=np.array(['x']))
    plain = _to_plain(content, 'meta')
    assert type(plain['a']) is float
    assert torch.equal(plain['b'], torch.arange(3))
    assert type(plain['c'][0][0]) is int
    assert plain['d'] == {4: None, 'e': {1}}
    assert plain['g'] is content['g']
    assert plain['h'] is content['h'], 'no tensor holds text'
