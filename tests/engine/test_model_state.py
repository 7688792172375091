"""What modules of mmdet keep in plain attributes is in checkpoints, and a resumed run has it."""
import importlib
import io

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from convnext_mm.engine.hooks.run_state import MODULES
from convnext_mm.engine.model_state import read_state, restore_state
from tests.helpers.toy import ToyModel, build_runner


def dynamic_head():
    return MODELS.build(Config(dict(
        type='DynamicRoIHead', bbox_roi_extractor=dict(
            type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=7), out_channels=4,
            featmap_strides=[4]),
        bbox_head=dict(
            type='Shared2FCBBoxHead', in_channels=4, fc_out_channels=4, roi_feat_size=7, num_classes=2,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'), reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss'), loss_bbox=dict(type='SmoothL1Loss', beta=1.)),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=.4, neg_iou_thr=.4, min_pos_iou=.4),
            sampler=dict(type='RandomSampler', num=8, pos_fraction=.25), pos_weight=-1, debug=False,
            dynamic_rcnn=dict(iou_topk=75, beta_topk=10, update_iter_interval=3, initial_iou=.4, initial_beta=1.)),
        test_cfg=dict())))


def of_dynamic_head(head):
    return (head.iou_history, head.beta_history, head.bbox_assigner.pos_iou_thr, head.bbox_assigner.neg_iou_thr,
            head.bbox_assigner.min_pos_iou, head.bbox_head.loss_bbox.beta)


def train_dynamic_head(head):
    head.iou_history, head.beta_history = [np.mean([.5]), np.mean([.7])], [.25]
    head.update_hyperparameters()
    head.iou_history += [np.mean([.8])]
    head.beta_history += [.125]


CASES = {
    'DynamicRoIHead': (dynamic_head, train_dynamic_head, of_dynamic_head, ([.8], [.125], .6, .6, .6, .25)),
    'DropBlock': (lambda: importlib.import_module('mmdet.models.layers').DropBlock(.1, 3),
                  lambda module: [module(torch.zeros(1, 1, 8, 8)) for _ in range(4)],
                  lambda module: module.iter_cnt, 4),
    'BatchSyncRandomResize': (
        lambda: MODELS.build(dict(type='BatchSyncRandomResize', random_size_range=(32, 64), interval=1)),
        lambda module: setattr(module, '_input_size', module._get_random_size(1., torch.device('cpu'))),
        lambda module: len(module._input_size), 2)}


@pytest.mark.parametrize('name', CASES)
def test_it_is_that_of_mmdets_modules(name):
    pytest.importorskip('mmdet')
    importlib.import_module('mmdet.models')
    init_default_scope('mmdet')
    build, train, of, expected = CASES[name]
    trained, fresh = (torch.nn.ModuleDict(dict(inner=build())) for _ in range(2))
    train(trained['inner'])
    file = io.BytesIO()
    torch.save(read_state(trained), file)
    file.seek(0)
    restore_state(fresh, torch.load(file, weights_only=True))
    assert of(fresh['inner']) == pytest.approx(expected) if name != 'DynamicRoIHead' else (
        [pytest.approx(value) for value in expected] == list(of(fresh['inner'])))
    assert read_state(fresh) == read_state(trained)


class DropBlock(torch.nn.Module):
    """Counts, as mmdet's of that name."""

    iter_cnt = 0


class Counting(ToyModel):
    def __init__(self):
        super().__init__()
        self.drop, self.seen = DropBlock(), []

    def forward(self, *args, **kwargs):
        self.drop.iter_cnt += 1
        self.seen.append(self.drop.iter_cnt)
        return super().forward(*args, **kwargs)


@pytest.mark.parametrize(('settings', 'first'), [(dict(resume=True), 4), ({}, 1)])
def test_a_resumed_run_counts_on(tmp_path, monkeypatch, settings, first):
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)
    hooks = [dict(type='convnext_mm.RunStateHook')]
    build_runner(tmp_path, dict(max_iters=3), hooks, model=Counting, by_epoch=False).train()
    file = tmp_path / 'iter_3.pth'
    assert torch.load(file, weights_only=False)[MODULES] == {'drop': dict(iter_cnt=3)}
    later = build_runner(tmp_path / 'later', dict(max_iters=5), hooks, model=Counting, by_epoch=False,
                         load_from=str(file), **settings)
    later.train()
    assert later.model.seen[0] == first


def test_a_model_without_such_modules_stores_nothing():
    assert read_state(ToyModel()) == {}
    model = Counting()
    restore_state(model, dict(gone=dict(iter_cnt=3)))
    assert model.drop.iter_cnt == 0
