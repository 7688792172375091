"""A run is what its logs tell, joined over resumes."""
import pytest

from convnext_mm.apis.cli import main as run_command
from convnext_mm.visualization.report import runs
from tests.helpers.runs import CASCADE, rate_line, start, train_line

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'the configs of the runs are of {_toolbox}')


def steps(lines):
    return [line['step'] for line in lines]


def test_resumed_parts_are_joined_without_what_they_went_back_behind(tmp_path):
    start(tmp_path, '20260101_000000', [train_line(50), rate_line(50), train_line(100), dict(mIoU=30., step=100),
                                        train_line(150), rate_line(150)])
    again = [train_line(150, loss=7.), rate_line(150), train_line(200), dict(mIoU=40., step=200)]
    start(tmp_path, '20260102_000000', again, resumed=(0, 100))
    start(tmp_path, '20260103_000000', None, resumed=(0, 200))
    run = runs.read_run(tmp_path)
    assert steps(run.losses) == [50, 100, 150, 200] and run.losses[2]['loss'] == 7.
    assert (steps(run.rates), steps(run.metrics)) == ([50, 150], [100, 200])
    assert run.resumed == [100] and run.progress == (200, 160000) and not run.finished
    assert run.environment == {'Python': '3.11.7 (main)', 'PyTorch': '2.13.0', 'seed': '7'}
    assert run.config_name == 'convnext_t_512_160k.py' and run.published['miou_single_scale'] == 46.0


def test_epochs_are_joined_by_epoch(tmp_path):
    lines = [train_line(50, 50), {'coco/bbox_mAP': .1, 'step': 1},
             train_line(100, 50), {'coco/bbox_mAP': .2, 'step': 2}, train_line(150, 50)]
    start(tmp_path, '20260101_000000', lines, CASCADE)
    again = [train_line(100, 50), {'coco/bbox_mAP': .3, 'step': 2}]
    start(tmp_path, '20260102_000000', again, CASCADE, resumed=(1, 50))
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


def break_config(folder):
    start(folder, 'x', [])
    (folder / 'x/vis_data/config.py').write_text('1 / 0')


@pytest.mark.parametrize(('make', 'message'), [
    (lambda folder: None, 'does not exist'), (lambda folder: folder.mkdir(), 'holds no training'),
    (lambda folder: (folder / 'a').mkdir(parents=True), 'holds no training'), (break_config, 'ZeroDivisionError')])
def test_mistakes_are_one_line(make, message, tmp_path, capsys):
    make(tmp_path / 'run')
    assert run_command('report', [str(tmp_path / 'run'), '--out', str(tmp_path / 'page.html')]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and message in said[0], said
    assert not (tmp_path / 'page.html').exists()
