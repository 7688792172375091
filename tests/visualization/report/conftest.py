"""Trained runs and a page about them, made once for the tests of the report."""
import math
import os

import pytest
from mmengine.config import Config

from convnext_mm.datasets import shapes
from convnext_mm.visualization.report.page import write_report
from tests.helpers.paths import ROOT
from tests.helpers.runs import CASCADE, rate_line, start, train_line


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """A folder with drawn data and, in `work_dirs`, what two demo runs leave that were cut off after a checkpoint."""
    import torch
    from mmengine.registry import MODELS, init_default_scope
    folder = tmp_path_factory.mktemp('trained')
    shapes.generate_coco(folder / 'data/shapes/coco', train=1, val=5, width=96, height=80)
    shapes.generate_ade(folder / 'data/shapes/ade', train=1, val=5, width=96, height=80)
    for name in ('cascade', 'upernet'):
        work_dir = folder / 'work_dirs' / name
        by_epoch = 40 if name == 'cascade' else None
        lines = [train_line(i * 10, by_epoch) for i in range(1, 60)] + [rate_line(i * 10) for i in range(1, 60)]
        metric = {'coco/bbox_mAP': .3, 'coco/segm_mAP': .2} if name == 'cascade' else {'mIoU': 50.}
        start(work_dir, '20260101_000000', [*lines, dict(metric, step=2)], f'configs/demo/{name}.py')
        cfg = Config.fromfile(ROOT / f'configs/demo/{name}.py')
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(), meta={}), work_dir / 'iter_20.pth')
    return folder


@pytest.fixture(scope='session')
def page(trained):
    """The page about a whole run of the paper, a demo run that was cut off, and one that has just been started."""
    folder, before = trained / 'page', os.getcwd()
    by_epoch = []
    for i in range(1, 200):
        losses = {'loss': 1 / i, 'loss_rpn_cls': .1 / i, 'loss_rpn_bbox': .1, 's0.loss_cls': .5 / i, 's0.acc': 90.}
        by_epoch.append(dict(train_line(i * 50, 2000), **losses))
        by_epoch += [{'coco/bbox_mAP': i / 500, 'coco/segm_mAP': i / 600, 'step': i // 40}] if i % 40 == 0 else []
    by_epoch[-1]['loss'] = math.nan
    start(folder / 'done', '20260101_000000', by_epoch, CASCADE)
    again = [dict(train_line(8050, 2000), loss_rpn_cls=1.)]
    start(folder / 'done', '20260102_000000', again, CASCADE, resumed=(4, 8000))
    (folder / 'done' / 'last_checkpoint').write_text('epoch_36.pth')
    start(folder / 'new', '20260101_000000', None)
    os.chdir(trained)
    try:
        write_report([folder / 'done', trained / 'work_dirs' / 'upernet', folder / 'new'], ROOT / 'configs',
                            folder / 'page.html')
    finally:
        os.chdir(before)
    assert sorted(path.name for path in folder.iterdir()) == ['done', 'new', 'page.html']
    return folder / 'page.html'
