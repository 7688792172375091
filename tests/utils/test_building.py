"""Mistakes in what a runner builds are one line, whenever it builds it; errors of a training stay what they are."""
import pytest
from mmengine.hooks import Hook

from convnext_mm.engine.runner.build import check_optimizers
from convnext_mm.utils.building import mistakes_named
from convnext_mm.utils.errors import UserError
from tests.helpers.toy import ToyModel, build_runner

LENGTH = dict(max_epochs=1)


class Failing(ToyModel):
    """A model with a mistake of its programmer's."""

    def forward(self, *args, **kwargs):
        raise KeyError('weight is not in the registry of names')


class FailingHook(Hook):
    def after_train_iter(self, *args, **kwargs):
        raise self.error


def failing(error):
    hook = FailingHook()
    hook.error = error
    return hook


def train(work_dir, train_cfg=LENGTH, **settings):
    with mistakes_named():
        build_runner(work_dir, train_cfg, **settings).train()


@pytest.mark.parametrize(('settings', 'said'), [
    (dict(hooks=[dict(type='EMAHoook')]), "type 'EMAHoook' of the config is not in the .*; did you mean EMAHook"),
    (dict(hooks=[dict(type='convnext_mm.RunStateHok')]), 'did you mean convnext_mm.RunStateHook'),
    (dict(hooks=[dict(type='Xyz')]), r'; correct its name, or import its module \(custom_imports\)'),
    (dict(hooks=[dict(type='SyncBuffersHook', colour=1)]), "SyncBuffersHook of the config .*TypeError: .*'colour'"),
    (dict(hooks=[dict(type='EMAHook', colour=1)]), "ExponentialMovingAverage of the config .*TypeError: .*'colour'"),
    (dict(hooks=[dict(name='EMAHook')]), 'must contain the key "type"'),
    (dict(train_cfg=dict(LENGTH, colour=1)), "EpochBasedTrainLoop of the config cannot be built: .*'colour'"),
    (dict(train_cfg={}), "EpochBasedTrainLoop of the config cannot be built: .*missing .*'max_epochs'"),
    (dict(batch_size='x'), 'ValueError: batch_size should be a positive integer'),
    (dict(optim_wrapper=dict(type='OptimWraper', optimizer=dict(type='SGD', lr=1))), 'did you mean OptimWrapper'),
    (dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=-1))), 'AdamW .*ValueError: Invalid learning rate: -1'),
    (dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=1, colour=1))), 'SGD of the config cannot be built'),
    (dict(param_scheduler=[dict(type='LinearLRR')]), 'did you mean LinearLR'),
    (dict(param_scheduler=[dict(type='LinearLR', colour=1)]), 'LinearLR of the config cannot be built'),
    (dict(visualizer=dict(type='Visualiser')), 'did you mean Visualizer')])
def test_a_mistake_in_a_config_is_named(settings, said, tmp_path):
    with pytest.raises(UserError, match=said):
        train(tmp_path, **settings)


@pytest.mark.parametrize(('settings', 'kind'), [
    (dict(model=Failing), KeyError), (dict(hooks=[failing(KeyError('weight'))]), KeyError),
    (dict(hooks=[failing(TypeError("f() got an unexpected keyword argument 'x'"))]), TypeError),
    (dict(hooks=[failing(ValueError('no'))]), ValueError), (dict(hooks=[failing(AssertionError())]), AssertionError)])
def test_an_error_of_a_training_stays_what_it_is(settings, kind, tmp_path):
    with pytest.raises(kind) as info:
        train(tmp_path, **settings)
    assert not isinstance(info.value, UserError)


@pytest.mark.parametrize(('settings', 'said'), [
    (dict(optimizer=dict(type='AdamZ')), "^optim_wrapper.optimizer.type='AdamZ' is no optimizer"),
    (dict(head=dict(optimizer=dict(type='AdamZ'))), '^optim_wrapper.head.optimizer.type='),
    (dict(optimizer=dict(type='AdamW')), None), (dict(optimizer=dict(type=dict)), None), ({}, None)])
def test_an_unknown_optimizer_is_named(settings, said):
    from mmengine.config import Config
    cfg = Config(dict(optim_wrapper=settings))
    if said is None:
        check_optimizers(cfg)
        return
    with pytest.raises(UserError, match=said):
        check_optimizers(cfg)
