"""A report tells what the logs of a run tell, joined over resumes, and shows all of it in a browser."""
import html
import json
import math
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from convnext_mm.apis.cli import main as run_command
from convnext_mm.datasets import shapes
from convnext_mm.utils.errors import UserError
from convnext_mm.visualization.report import page as report
from convnext_mm.visualization.report import runs
from convnext_mm.visualization.report import worst_samples as samples
from tests.helpers.paths import ROOT

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'the report builds models of {_toolbox}')

CASCADE, UPERNET = 'configs/cascade/convnext_t_3x.py', 'configs/upernet/convnext_t_512_160k.py'
ENVIRONMENT = """
------------------------------------------------------------
System environment:
    Python: 3.11.7 (main)
    PyTorch: 2.13.0
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3

Runtime environment:
    seed: 7
------------------------------------------------------------
"""


def train_line(step, per_epoch=None, **values):
    epoch = {} if per_epoch is None else dict(epoch=-(-step // per_epoch))
    values = dict({'loss': 1 / step, 'decode.loss_ce': .7 / step, 'aux.loss_ce': .3 / step}, **values)
    return dict(base_lr=1e-4, lr=5e-5, time=.5, memory=2048, **values, **epoch, iter=step, step=step)


def rate_line(step, layers=(0, 1, 2)):
    return {**{f'lr/layer_{i:02d}': 1e-4 * .9 ** (2 - i) for i in layers}, 'step': step}


def start(folder, stamp, lines, config=UPERNET, resumed=None, **options):
    """What mmengine leaves of one start of a training."""
    data = folder / stamp / 'vis_data'
    data.mkdir(parents=True)
    cfg = Config.fromfile(ROOT / config)
    cfg.merge_from_dict(options)
    cfg.dump(data / 'config.py')
    shutil.copy(data / 'config.py', folder / Path(config).name)
    if lines is not None:
        (data / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' if isinstance(line, dict) else line
                                                   for line in lines))
    said = '' if resumed is None else 'INFO - resumed epoch: {}, iter: {}\n'.format(*resumed)
    (folder / stamp / f'{stamp}.log').write_text(ENVIRONMENT + said)
    return folder


def steps(lines):
    return [line['step'] for line in lines]


def test_resumed_parts_are_joined_without_what_they_went_back_behind(tmp_path):
    start(tmp_path, '20260101_000000', [train_line(50), rate_line(50), train_line(100), dict(mIoU=30., step=100),
                                        train_line(150), rate_line(150)])
    start(tmp_path, '20260102_000000', [train_line(150, loss=7.), rate_line(150), train_line(200), dict(mIoU=40., step=200)],
          resumed=(0, 100))
    start(tmp_path, '20260103_000000', None, resumed=(0, 200))
    run = runs.read_run(tmp_path)
    assert steps(run.losses) == [50, 100, 150, 200] and run.losses[2]['loss'] == 7.
    assert (steps(run.rates), steps(run.metrics)) == ([50, 150], [100, 200])
    assert run.resumed == [100] and run.progress == (200, 160000) and not run.finished
    assert run.environment == {'Python': '3.11.7 (main)', 'PyTorch': '2.13.0', 'seed': '7'}
    assert run.config_name == 'convnext_t_512_160k.py' and run.published['miou_single_scale'] == 46.0


def test_epochs_are_joined_by_epoch(tmp_path):
    lines = [train_line(50, 50), {'coco/bbox_mAP': .1, 'step': 1}, train_line(100, 50), {'coco/bbox_mAP': .2, 'step': 2},
             train_line(150, 50)]
    start(tmp_path, '20260101_000000', lines, CASCADE)
    start(tmp_path, '20260102_000000', [train_line(100, 50), {'coco/bbox_mAP': .3, 'step': 2}], CASCADE, resumed=(1, 50))
    run = runs.read_run(tmp_path)
    assert steps(run.losses) == [50, 100]
    assert [(line['step'], line['coco/bbox_mAP']) for line in run.metrics] == [(1, .1), (2, .3)]
    assert (run.by_epoch, run.metric_unit, run.progress) == (True, 'epoch', (2, 36))


def test_a_new_start_begins_anew(tmp_path):
    start(tmp_path, '20260101_000000', [train_line(50), train_line(100), dict(mIoU=30., step=100)])
    start(tmp_path, '20260102_000000', [train_line(50)])
    run = runs.read_run(tmp_path)
    assert (steps(run.losses), run.metrics, run.resumed) == ([50], [], [])


@pytest.mark.parametrize(('lines', 'read', 'unreadable'), [
    ([train_line(50), '{"loss": 1.0, "it'], [50], 0), ([train_line(50), '{"lo\n', train_line(100)], [50, 100], 1),
    ([train_line(50), '[1]\n', '7\n', '{"loss": 1}\n', train_line(100)], [50, 100], 3), ([], [], 0), (None, [], 0)])
def test_lines_that_are_not_whole(lines, read, unreadable, tmp_path):
    run = runs.read_run(start(tmp_path, '20260101_000000', lines))
    assert (steps(run.losses), run.unreadable) == (read, unreadable)


def test_testing_in_the_same_folder_changes_nothing(tmp_path):
    start(tmp_path, '20260101_000000', [train_line(50)])
    start(tmp_path, '20260102_000000', None, **{'model.backbone.arch': 'base'})
    assert runs.read_run(tmp_path).config.model.backbone.arch == 'tiny'


@pytest.mark.parametrize(('pointer', 'files', 'checkpoint', 'finished'), [
    (None, [], None, False), ('/gone/iter_80.pth', ['iter_80.pth'], 'iter_80.pth', False),
    ('/gone/iter_160000.pth', ['iter_160000.pth'], 'iter_160000.pth', True),
    ('iter_96.pth', ['iter_80.pth', 'iter_9.pth'], 'iter_80.pth', False),
    ('iter_160000.pth', [], None, True), ('best_mIoU_iter_80.pth', ['best_mIoU_iter_80.pth'], None, False)])
def test_checkpoints(pointer, files, checkpoint, finished, tmp_path):
    start(tmp_path, '20260101_000000', [train_line(50)])
    if pointer:
        (tmp_path / 'last_checkpoint').write_text(pointer)
    for name in files:
        (tmp_path / name).touch()
    run = runs.read_run(tmp_path)
    assert (run.checkpoint and run.checkpoint.name, run.finished) == (checkpoint, finished)


def test_only_the_papers_configs_on_the_papers_data_have_published_values(tmp_path):
    start(tmp_path / 'own', '20260101_000000', [], **{'val_dataloader.dataset.metainfo': dict(classes=('a',))})
    start(tmp_path / 'demo', '20260101_000000', [], 'configs/demo/upernet.py')
    start(tmp_path / 'mask', '20260101_000000', [], 'configs/mask_rcnn/convnext_t_3x.py')
    start(tmp_path / 'cascade', '20260101_000000', [], CASCADE)
    published = {name: runs.read_run(tmp_path / name).published for name in ('own', 'demo', 'mask', 'cascade')}
    assert published['own'] is None and published['demo'] is None
    assert (published['mask']['box_ap'], published['cascade']['box_ap']) == (46.2, 50.4)


@pytest.mark.parametrize(('make', 'message'), [
    (lambda folder: None, 'does not exist'), (lambda folder: folder.mkdir(), 'holds no training'),
    (lambda folder: (folder / 'a').mkdir(parents=True), 'holds no training'),
    (lambda folder: start(folder, 'x', []) and (folder / 'x/vis_data/config.py').write_text('1 / 0'), 'ZeroDivisionError')])
def test_mistakes_are_one_line(make, message, tmp_path, capsys):
    make(tmp_path / 'run')
    assert run_command('report', [str(tmp_path / 'run'), '--out', str(tmp_path / 'page.html')]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0], said
    assert not (tmp_path / 'page.html').exists()


def test_a_page_that_cannot_be_written(tmp_path):
    start(tmp_path, '20260101_000000', [])
    with pytest.raises(UserError, match="--out '.*gone/page.html' cannot be written: No such file"):
        report.write_report([tmp_path], ROOT / 'configs', tmp_path / 'gone' / 'page.html')


def test_a_page_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    start(tmp_path / 'run', '20260101_000000', [])
    (tmp_path / 'page.html').write_text('old')

    def full(*args):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(report.os, 'replace', full)
    with pytest.raises(UserError, match='cannot be written: No space left'):
        report.write_report([tmp_path / 'run'], ROOT / 'configs', tmp_path / 'page.html')
    assert (tmp_path / 'page.html').read_text() == 'old'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['page.html', 'run']


def test_every_loss_has_a_curve_in_the_chart_of_its_part():
    lines = [dict(loss=1., loss_rpn_cls=.1, loss_cls=.2), {'loss': 1., 'loss_mask': .3, 's0.loss_bbox': .1, 'aux.loss_ce': .2, 'acc': 9}]
    assert report._loss_groups(lines) == {'rpn': ['loss_rpn_cls'], 'head': ['loss_cls', 'loss_mask'], 's0': ['s0.loss_bbox'],
                                          'aux': ['aux.loss_ce']}


def test_difference():
    base = dict(a=1, b=dict(c=[1, 2], d=[dict(type='X', n=1), dict(type='Y')]), val_dataloader=dict(x=1),
                test_dataloader=dict(x=1), work_dir='old', gone=3)
    new = dict(a=1, b=dict(c=(1, 3), d=[dict(type='X', n=2), dict(type='Y')], e=True), val_dataloader=dict(x=2),
               test_dataloader=dict(x=2), work_dir='new')
    assert report.config_difference(base, new) == [
        ('b.c', [1, 2], [1, 3]), ('b.d.0.n', 1, 2), ('val_dataloader.x', 1, 2), ('gone', 3, None), ('b.e', None, True)]
    new['test_dataloader'] = dict(x=3)
    assert ('test_dataloader.x', 1, 3) in report.config_difference(base, new)
    assert report.config_difference(base, base) == []


def test_names_tell_runs_apart(tmp_path):
    folders = [start(tmp_path / name, '20260101_000000', []) for name in ('a/run', 'b/run')]
    assert report._names([runs.read_run(folder) for folder in folders]) == ['a/run', 'b/run']
    assert report._names([runs.read_run(folders[0])]) == ['run']


# The samples.

SQUARE = np.zeros((3, 10, 10), bool)
SQUARE[0, :4, :4] = SQUARE[1, :4, :2] = SQUARE[2, 6:, 6:] = True
BOXES = np.array([[0, 0, 4, 4], [0, 0, 2, 4], [6, 6, 10, 10]], float)


@pytest.mark.parametrize('shapes_', [SQUARE, BOXES], ids=['masks', 'boxes'])
@pytest.mark.parametrize(('true', 'found', 'iou', 'missed', 'extra'), [
    ([0], [0], 1, 0, 0), ([0], [1], .5, 0, 0), ([0, 2], [0], .5, 1, 0), ([0], [0, 2], .5, 0, 1), ([0], [2], 0, 1, 1),
    ([], [], 1, 0, 0), ([], [0], 0, 0, 1), ([0, 1], [1, 0], 1, 0, 0)])
def test_iou_of_instances(shapes_, true, found, iou, missed, extra):
    assert samples.instance_iou(shapes_[true], np.zeros(len(true)), shapes_[found], np.zeros(len(found))) == (
        pytest.approx(iou), missed, extra)


def test_instances_match_within_their_class():
    assert samples.instance_iou(BOXES[:1], np.array([0]), BOXES[:1], np.array([1])) == (0, 1, 1)


def test_iou_of_a_segmentation():
    true, found = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]])
    assert samples.segmentation_iou(true, found, 3) == (pytest.approx((1 / 2 + 1 / 2) / 2), 0)
    assert samples.segmentation_iou(np.array([[0, 0, 0, 1]]), np.array([[0, 0, 0, 2]]), 3) == (pytest.approx(1 / 3), 1)
    assert samples.segmentation_iou(np.full((1, 2), 255), np.zeros((1, 2), int), 3) == (1., 0)


@pytest.fixture(scope='module')
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


@pytest.mark.parametrize(('name', 'titles'), [
    ('cascade', ['ground truth', 'prediction']), ('upernet', ['image', 'ground truth', 'prediction'])])
def test_samples_are_the_worst_first(name, titles, trained, monkeypatch):
    monkeypatch.chdir(trained)
    monkeypatch.setattr(samples, 'SHOWN', 3)
    run = runs.read_run(f'work_dirs/{name}')
    worst, checked, size = samples.predict_samples(run.config, run.checkpoint)
    assert (checked, size, len(worst)) == (5, 5, 3)
    assert [s.iou for s in worst] == sorted(s.iou for s in worst)
    for sample in worst:
        assert list(sample.panels) == titles
        assert all(p.dtype == np.uint8 and max(p.shape) == samples.SIDE for p in sample.panels.values())
    monkeypatch.setattr(samples, 'SHOWN', 5)
    every = samples.predict_samples(run.config, run.checkpoint)[0]
    assert [s.name for s in every[:3]] == [s.name for s in worst], 'not the worst, but the first'


# The page.

@pytest.fixture(scope='module')
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
    start(folder / 'done', '20260102_000000', [dict(train_line(8050, 2000), loss_rpn_cls=1.)], CASCADE, resumed=(4, 8000))
    (folder / 'done' / 'last_checkpoint').write_text('epoch_36.pth')
    start(folder / 'new', '20260101_000000', None)
    os.chdir(trained)
    try:
        report.write_report([folder / 'done', trained / 'work_dirs' / 'upernet', folder / 'new'], ROOT / 'configs',
                            folder / 'page.html')
    finally:
        os.chdir(before)
    assert sorted(path.name for path in folder.iterdir()) == ['done', 'new', 'page.html']
    return folder / 'page.html'


CURVES = {'done', 'upernet', 'loss', 'loss_rpn_cls', 'loss_rpn_bbox', 's0.loss_cls', 'decode.loss_ce', 'aux.loss_ce', 'box AP',
          'mask AP', 'mIoU', 'base rate', 'first group', 'layer 00', 'layer 01', 'layer 02'}


def section(text, name):
    return text[text.index(f'<section id="{name}"'):].split('</section>')[0]


def visible(text):
    return html.unescape(re.sub('<[^>]+>', '|', text))


def test_the_page_tells_what_the_logs_tell(page):
    text = page.read_text()
    assert set(re.findall('data-series="([^"]+)"', text)) == CURVES | {'new'}
    overview = visible(section(text, 'overview'))
    for fact in ('published 50.4', '36 epochs', 'unfinished', '59', 'after iteration 8,000', 'none yet', '2.0 GiB'):
        assert fact in overview, fact
    accuracy = section(text, 'accuracy')
    assert re.findall('data-level="([^"]+)"', accuracy) == ['box AP published', 'mask AP published']
    assert 'No figures yet' in accuracy and 'no published value' in accuracy
    assert 'No losses yet' in section(text, 'losses') and 'No learning rates yet' in section(text, 'learning-rates')
    predictions = section(text, 'predictions')
    assert predictions.count('<img') == 3 * 5 and predictions.count('No checkpoint yet') == 2
    ious = [float(iou) for iou in re.findall(r'IoU ([\d.]+)', predictions)]
    assert ious == sorted(ious)
    cost = visible(section(text, 'cost'))
    assert '741' in cost and '86' in cost and '939' in cost
    config = visible(section(text, 'config'))
    assert '|model.backbone.drop_path_rate|' in config and "|['type', " not in config and '|0.4|' in config
    assert '3.11.7' in section(text, 'environment')


def test_the_page_needs_no_network(page):
    text = page.read_text()
    assert set(re.findall(r'(?:src|href)="([^"]{1,5})', text)) <= {'data:', *(a[:5] for a in re.findall('href="(#[^"]+)', text))}
    style = text[text.index('<style>'):text.index('</style>')]
    assert 'url(' not in style and '@import' not in style and '<script' not in text


def test_what_a_section_lacks_is_said_in_its_place(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / 'work_dirs', tmp_path / 'w')
    (tmp_path / 'w/cascade/iter_20.pth').write_bytes(b'no checkpoint')
    # Not in the folder of the data.
    report.write_report([tmp_path / 'w/cascade'], tmp_path, tmp_path / 'page.html')
    text = (tmp_path / 'page.html').read_text()
    assert 'Not available: ' in section(text, 'predictions') and 'does not exist' in section(text, 'predictions')
    assert 'No base to compare with' in section(text, 'config') and 'total' in section(text, 'cost')
    assert 'does not exist' in capsys.readouterr().err


CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
#: Measures the page in frames of several widths, and writes what it found as JSON into this page.
MEASURE = """<!DOCTYPE html><body><script>
const page = PAGE, widths = WIDTHS, found = [];
function measure(frame, width) {
  const doc = frame.contentDocument, root = doc.documentElement;
  const clips = e => e.closest('.scroll, nav');
  found.push({width,
    overflow: root.scrollWidth - root.clientWidth,
    outside: [...doc.querySelectorAll('main *')].filter(e => !clips(e) && !e.closest('svg')
      && e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.outerHTML.slice(0, 80)),
    images: [...doc.images].map(i => [i.naturalWidth, i.getBoundingClientRect().width]),
    curves: [...doc.querySelectorAll('[data-series]')].map(p => [p.dataset.series, p.getAttribute('d') ? p.getTotalLength() : -1,
      p.getBoundingClientRect().height]),
    small: [...doc.querySelectorAll('main *')].filter(e => e.childNodes.length && [...e.childNodes].some(n => n.nodeType == 3
      && n.textContent.trim()) && e.checkVisibility() && parseFloat(getComputedStyle(e).fontSize) < 12).length,
    height: root.scrollHeight});
  if (found.length == widths.length) document.body.innerHTML = '<pre id="found">' + JSON.stringify(found) + '</pre>';
}
for (const width of widths) {
  const frame = document.createElement('iframe');
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.onload = () => measure(frame, width);
  frame.srcdoc = page;
  document.body.append(frame);
}
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason='no chromium is installed')
def test_the_page_in_a_browser(page, tmp_path):
    widths = [400, 800, 1400]
    text = json.dumps(page.read_text()).replace('</', '<\\/')
    (tmp_path / 'measure.html').write_text(MEASURE.replace('PAGE', text).replace('WIDTHS', str(widths)))
    command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
               '--disable-background-networking', '--disable-component-update', f'--user-data-dir={tmp_path / "profile"}',
               '--enable-logging=stderr', '--virtual-time-budget=20000', '--window-size=1600,1000', '--dump-dom',
               (tmp_path / 'measure.html').as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert 'CONSOLE' not in result.stderr, result.stderr
    found = json.loads(html.unescape(re.search('<pre id="found">(.*?)</pre>', result.stdout, re.S).group(1)))
    assert [view['width'] for view in found] and sorted(view['width'] for view in found) == widths
    for view in found:
        assert view['overflow'] <= 0 and view['outside'] == [], view
        assert len(view['images']) == 15 and all(natural > 0 and shown > 90 for natural, shown in view['images'])
        drawn = {name for name, length, _ in view['curves'] if length > 0}
        # A single point has a dot and no length; the run that has just been started has nothing.
        assert CURVES - {'mIoU'} <= drawn, CURVES - drawn
        assert view['small'] == 0, 'letters below 12 pixels'
    assert found[0]['height'] != found[-1]['height'], 'the widths were not applied'


def test_the_tool(page, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, 'predict_samples', lambda *args, **kwargs: ([], 0, 0))
    shutil.copytree(page.parent / 'done', tmp_path / 'done')
    assert run_command('report', [str(tmp_path / 'done')]) == 0
    assert capsys.readouterr().out == f'{tmp_path / "done" / "report.html"}\n'
    assert time.time() - (tmp_path / 'done' / 'report.html').stat().st_mtime < 600
    assert 'Traceback' not in (tmp_path / 'done' / 'report.html').read_text()
