"""What tools/test.py measures is what pycocotools and numpy find in its dumps; stored predictions give it again."""
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from PIL import Image

from convnext_mm.apis.cli import main as run_command
from convnext_mm.datasets import shapes
from convnext_mm.evaluation import evaluators, predictions
from convnext_mm.evaluation import scores as figures
from convnext_mm.evaluation.run_facts import describe_run, describe_weights
from convnext_mm.evaluation.tested import Tested
from convnext_mm.utils.errors import UserError
from tests.helpers.paths import ROOT

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'evaluation needs {_toolbox}')

IMAGES = 12
SOURCE = {
    'detector': """
_base_ = '{root}/configs/demo/cascade.py'
model = dict(_delete_=True, type='mmengine.PerturbedTruth')
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}/coco/'))
test_evaluator = dict(ann_file='{data}/coco/annotations/instances_val2017.json', classwise=True)
""",
    'segmentor': """
_base_ = '{root}/configs/demo/upernet.py'
model = dict(_delete_=True, type='mmengine.PerturbedTruth', decode_head=dict())
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}/ade/'))
"""}


@MODELS.register_module()
class PerturbedTruth(BaseModel):
    """Predicts the annotations: shifted, some left out or of another class, with scores; the same on every run."""

    def __init__(self, decode_head=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.detects = decode_head is None

    def forward(self, inputs, data_samples, mode):
        for sample in data_samples:
            rng = np.random.default_rng(list(os.path.basename(sample.img_path).encode()))
            (self.detect if self.detects else self.segment)(sample, rng)
        return data_samples

    def detect(self, sample, rng):
        from mmengine.structures import InstanceData
        truth = sample.gt_instances
        # Each shape three times, differently far off.
        chosen = [i for i in range(len(truth)) for _ in range(3) if rng.random() < .8]
        shifts = rng.integers(-4, 5, (len(chosen), 2))
        moves = np.tile(shifts, 2) + rng.uniform(-1, 1, (len(chosen), 4))
        boxes = truth.bboxes.tensor[chosen] + torch.tensor(moves)
        masks = [np.roll(truth.masks.masks[i], shift[::-1], (0, 1)).astype(bool) for i, shift in zip(chosen, shifts)]
        labels = [int(truth.labels[i]) if rng.random() < .8 else rng.integers(3) for i in chosen]
        sample.pred_instances = InstanceData(
            bboxes=boxes.float(), labels=torch.tensor(labels, dtype=torch.int64),
            scores=torch.tensor(rng.uniform(.1, 1, len(chosen))).float(),
            masks=torch.tensor(np.array(masks, bool).reshape(-1, *sample.ori_shape)))

    def segment(self, sample, rng):
        from mmengine.structures import PixelData
        index = torch.roll(sample.gt_sem_seg.data, tuple(rng.integers(-3, 4, 2)), (1, 2)).clone()
        index[index == 255] = 0
        y, x = rng.integers(0, 60, 2)
        index[:, y:y + 40, x:x + 40] = int(rng.integers(4))
        sample.pred_sem_seg = PixelData(data=index)


def tool(name, *arguments):
    """Run a tool in this process; its exit code."""
    return run_command(name, list(map(str, arguments)))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    shapes.generate_coco(folder / 'coco', train=1, val=IMAGES, width=128, height=96)
    shapes.generate_ade(folder / 'ade', train=1, val=IMAGES, width=128, height=96)
    return folder


@pytest.fixture(scope='module')
def files(tmp_path_factory, data):
    """A config of each family, at a path that the paper has a row for, and a checkpoint."""
    folder = tmp_path_factory.mktemp('files')
    paths = {'detector': folder / 'cascade' / 'convnext_t_3x.py',
             'segmentor': folder / 'upernet' / 'convnext_t_512_160k.py'}
    for kind, path in paths.items():
        path.parent.mkdir()
        path.write_text(SOURCE[kind].format(root=ROOT, data=data))
    torch.save(dict(meta=dict(epoch=3, iter=60, time='20260101_000000'), state_dict=dict(weight=torch.zeros(1))),
               folder / 'a.pth')
    return {**paths, 'checkpoint': folder / 'a.pth'}


@pytest.fixture(scope='module')
def runs(tmp_path_factory, files):
    """What tools/test.py stored: work dir and predictions of each family."""
    folder, stored = tmp_path_factory.mktemp('runs'), {'detector': 'p.json', 'segmentor': 'maps'}
    for kind, name in stored.items():
        assert tool('test', files[kind], files['checkpoint'], '--work-dir', folder / kind, '--out',
                    folder / 'out' / name) == 0
    return {kind: (folder / kind, folder / 'out' / name) for kind, name in stored.items()}


def report(work_dir):
    content = json.loads((work_dir / 'evaluation.json').read_text())
    return content, {f['metric']: f for f in content['figures']}


@pytest.mark.parametrize(('kind', 'word'), [('bbox', 'box'), ('segm', 'mask')])
def test_ap_is_that_of_pycocotools_on_the_dump(runs, data, kind, word):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    work_dir, dump = runs['detector']
    truth = COCO(str(data / 'coco/annotations/instances_val2017.json'))
    found = json.loads(dump.read_text())['annotations']
    if kind == 'segm':
        found = [{key: value for key, value in entry.items() if key != 'bbox'} for entry in found]

    def evaluate(**parameters):
        result = COCOeval(truth, truth.loadRes([dict(entry) for entry in found]), kind)
        vars(result.params).update(parameters)
        result.evaluate()
        result.accumulate()
        result.summarize()
        return result.stats

    content, measured = report(work_dir)
    stats = evaluate()
    names = ('AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large',
             'AR 1', 'AR 10', 'AR 100', 'AR small', 'AR medium', 'AR large')
    told = [measured[f'{word} {name}']['measured'] for name in names]
    assert [value is None for value in told] == [value < 0 for value in stats]
    assert [-100 if value is None else value for value in told] == pytest.approx(100 * stats, abs=1e-10)
    assert .2 < stats[0] < .9 and len(set(stats)) > 9, 'the predictions are neither perfect nor hopeless'
    by_class = [100 * evaluate(catIds=[i])[0] for i in (1, 2, 3)]
    assert [row[f'{word} AP'] for row in content['classes']] == pytest.approx(by_class, rel=1e-12)
    assert [row['class'] for row in content['classes']] == list(shapes.CLASSES)


def test_miou_is_that_of_numpy_on_the_dump(runs, data):
    work_dir, dump = runs['segmentor']
    confusion = np.zeros((5, 5))
    for file in sorted(dump.glob('*.png')):
        truth = np.array(Image.open(data / 'ade/annotations/validation' / file.name))
        found = np.array(Image.open(file))
        np.add.at(confusion, (truth[truth > 0], found[truth > 0]), 1)
    right, true, predicted = np.diag(confusion)[1:], confusion.sum(1)[1:], confusion.sum(0)[1:]
    iou, accuracy = 100 * right / (true + predicted - right), 100 * right / true
    content, measured = report(work_dir)
    assert [measured[name]['measured'] for name in ('mIoU', 'mAcc', 'aAcc')] == pytest.approx(
        [iou.mean(), accuracy.mean(), 100 * right.sum() / true.sum()], rel=1e-12)
    for key, values in (('IoU', iou), ('Acc', accuracy)):
        assert [row[key] for row in content['classes']] == pytest.approx(values, rel=1e-12)
    assert 20 < iou.mean() < 90


def test_figures_are_mms(files, tmp_path, capsys):
    """mmdet's own metric, which rounds, stays where its settings ask for more than COCO's figures."""
    assert tool('test', files['detector'], files['checkpoint'], '--work-dir', tmp_path / 'own') == 0
    assert tool('test', files['detector'], files['checkpoint'], '--work-dir', tmp_path / 'mm', '--cfg-options',
                'test_evaluator.metric_items=[mAP,mAP_50]') == 0
    own, theirs = (json.loads((tmp_path / name / 'evaluation.json').read_text()) for name in ('own', 'mm'))
    own, theirs = ({f['key']: f['measured'] for f in content['figures']} for content in (own, theirs))
    assert {'coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/segm_mAP', 'coco/segm_mAP_50'} < set(theirs)
    for key in ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/segm_mAP', 'coco/segm_mAP_50'):
        assert own[key] == pytest.approx(theirs[key], abs=.0501)


@pytest.mark.parametrize('kind', SOURCE)
def test_stored_predictions_give_the_same_again(kind, runs, files, tmp_path, capsys):
    work_dir, stored = runs[kind]
    assert tool('evaluate', stored, files[kind], '--work-dir', tmp_path) == 0
    for name in ('evaluation.json', 'evaluation.md'):
        assert (tmp_path / name).read_bytes() == (work_dir / name).read_bytes(), name
    assert sorted(p.name for p in tmp_path.iterdir()) == ['evaluation.json', 'evaluation.md']
    table = figures.format_scores(report(work_dir)[0])
    assert table in capsys.readouterr().out


@pytest.mark.parametrize('kind', SOURCE)
def test_the_report_says_what_was_run(kind, runs, files):
    content, measured = report(runs[kind][0])
    assert (content['config'], content['protocol'], content['images']) == (str(files[kind]), 'single-scale', IMAGES)
    assert content['weights'].pop('sha256') and content['weights'] == dict(
        source=str(files['checkpoint']), epoch=3, iter=60, time='20260101_000000')
    assert f'here {IMAGES}: the figures do not compare' in content['published']
    expected = {'detector': {'box AP': 50.4, 'mask AP75': 47.3, 'box AR 1': None},
                'segmentor': {'mIoU': 46.0, 'aAcc': None}}[kind]
    for name, value in expected.items():
        figure = measured[name]
        assert figure['published'] == value
        assert figure['difference'] == (None if value is None else figure['measured'] - value)


def test_a_list_of_results_is_enough(runs, files, tmp_path):
    """As other programs write them; which images there were is not told by it."""
    work_dir, stored = runs['detector']
    (tmp_path / 'r.json').write_text(json.dumps(json.loads(stored.read_text())['annotations']))
    assert tool('evaluate', tmp_path / 'r.json', files['detector'], '--work-dir', tmp_path) == 0
    (theirs, _), (content, _) = report(work_dir), report(tmp_path)
    assert content['figures'] == theirs['figures'] and content['weights'] is None


def test_nothing_found_is_zero(runs, files, tmp_path):
    content = json.loads(runs['detector'][1].read_text())
    (tmp_path / 'none.json').write_text(json.dumps(dict(content, annotations=[])))
    assert tool('evaluate', tmp_path / 'none.json', files['detector'], '--work-dir', tmp_path) == 0
    _, measured = report(tmp_path)
    assert measured['box AP']['measured'] == measured['mask AR 100']['measured'] == 0


def without_image(content):
    gone = content['images'].pop(3)
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != gone['id']]
    return f'1 images of the data set are missing ({gone["file_name"]})'


def with_other_image(content):
    content['images'].append(dict(id=77, file_name='other.png', width=1, height=1))
    return '1 images are not in the data set (other.png)'


def with_other_class(content):
    content['categories'][1]['name'] = 'cube'
    return 'category 2 is cube, in the data set square'


def without_masks(content):
    del content['annotations'][0]['segmentation']
    return 'lack masks'


def without_scores(content):
    del content['annotations'][0]['score']
    return "are not COCO's"


def wrong_result(**settings):
    """Return a change of the first result."""
    def change(content):
        content['annotations'][0].update(settings)
        return "are not COCO's: expected annotations with image_id"
    change.__name__ = str(settings)
    return change


def wrong_list(name, entries):
    """Return a change of a list as a whole."""
    def change(content):
        content[name] = entries
        return f'expected {name} as a list of objects with id'
    change.__name__ = f'{name} {entries}'
    return change


WRONG = (
    *(wrong_result(**settings) for settings in (
        dict(image_id=[1]), dict(category_id='1'), dict(category_id=None), dict(bbox=[1, 2, 3]), dict(bbox='abcd'),
        dict(bbox=[1, 2, '3', 4]), dict(score=None), dict(score='.5'), dict(score=float('nan')),
        dict(segmentation=[[1, 1, 5, 1, 5, 5]]), dict(segmentation=dict(size=[9, 9])))),
    wrong_list('images', [1]), wrong_list('images', [{}]), wrong_list('images', 3), wrong_list('categories', {}),
    wrong_list('categories', [dict(id=1)]))


@pytest.mark.parametrize('change', [without_image, with_other_image, with_other_class, without_masks, without_scores,
                                    *WRONG], ids=lambda change: change.__name__)
def test_other_detections_are_refused(change, runs, files, tmp_path, capsys):
    content = json.loads(runs['detector'][1].read_text())
    message = change(content)
    (tmp_path / 'p.json').write_text(json.dumps(content))
    assert tool('evaluate', tmp_path / 'p.json', files['detector'], '--work-dir', tmp_path / 'out') == 2
    error = capsys.readouterr().err
    assert message in error and [line for line in error.splitlines() if 'error:' in line] == [error.splitlines()[-1]]
    assert not (tmp_path / 'out').exists()


def map_of_another_size(folder):
    Image.fromarray(np.ones((5, 7), np.uint8)).save(folder / 'shapes_val_00000002.png')
    return 'is of 7 x 5 pixels, the annotation of 128 x 96'


def map_missing(folder):
    (folder / 'shapes_val_00000004.png').unlink()
    return '1 images of the data set are missing (shapes_val_00000004.png)'


def map_too_many(folder):
    shutil.copy(folder / 'shapes_val_00000004.png', folder / 'x.png')
    return '1 images are not in the data set (x.png)'


def map_of_colours(folder):
    Image.new('RGB', (128, 96)).save(folder / 'shapes_val_00000001.png')
    return 'is no index PNG'


def map_broken(folder):
    (folder / 'shapes_val_00000001.png').write_bytes(b'')
    return 'cannot be read as an index PNG'


@pytest.mark.parametrize('change', [map_of_another_size, map_missing, map_too_many, map_of_colours, map_broken])
def test_other_maps_are_refused(change, runs, files, tmp_path, capsys):
    shutil.copytree(runs['segmentor'][1], tmp_path / 'maps')
    message = change(tmp_path / 'maps')
    assert tool('evaluate', tmp_path / 'maps', files['segmentor'], '--work-dir', tmp_path / 'out') == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('name', 'config', 'message'), [
    ('gone.json', 'detector', 'do not exist'), ('p.pkl', 'detector', 'is truncated or damaged'),
    ('empty.pkl', 'detector', 'is truncated or damaged'), ('list.pkl', 'detector', "are not mmdet's dump"),
    ('text.json', 'detector', 'cannot be read as JSON'), ('maps', 'detector', 'are of another task'),
    ('list.json', 'segmentor', 'are of another task')])
def test_what_is_no_predictions(name, config, message, files, tmp_path, capsys):
    (tmp_path / 'p.pkl').write_bytes(b'\x80')
    (tmp_path / 'empty.pkl').write_bytes(b'')
    (tmp_path / 'list.pkl').write_bytes(pickle.dumps([1, 2]))
    (tmp_path / 'text.json').write_text('text')
    (tmp_path / 'list.json').write_text('[]')
    (tmp_path / 'maps').mkdir()
    assert tool('evaluate', tmp_path / name, files[config], '--work-dir', tmp_path / 'out') == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_pickle_is_mmdets_own_and_gives_the_figures_again(runs, files, tmp_path):
    assert tool('test', files['detector'], files['checkpoint'], '--work-dir', tmp_path,
                '--out', tmp_path / 'p.pkl') == 0
    content = pickle.loads((tmp_path / 'p.pkl').read_bytes())
    assert len(content) == IMAGES and {'bboxes', 'scores', 'labels', 'masks'} <= content[0]['pred_instances'].keys()
    assert tool('evaluate', tmp_path / 'p.pkl', files['detector'], '--work-dir', tmp_path / 'again') == 0
    assert report(tmp_path / 'again')[0]['figures'] == report(runs['detector'][0])[0]['figures']


def test_a_pickle_runs_nothing(files, tmp_path, capsys):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'harm'),)
    (tmp_path / 'p.pkl').write_bytes(pickle.dumps([dict(img_id=Harm())]))
    assert tool('evaluate', tmp_path / 'p.pkl', files['detector']) == 2
    assert 'mkdir, which is no tensor and is not loaded' in capsys.readouterr().err
    assert not (tmp_path / 'harm').exists()


def test_maps_of_an_earlier_run_are_replaced(runs, files, tmp_path):
    out = tmp_path / 'maps'
    shutil.copytree(runs['segmentor'][1], out)
    shutil.copy(out / 'shapes_val_00000001.png', out / 'old.png')
    (tmp_path / 'maps.partial').mkdir()
    shutil.copy(out / 'shapes_val_00000001.png', tmp_path / 'maps.partial' / 'interrupted.png')
    assert tool('test', files['segmentor'], files['checkpoint'], '--work-dir', tmp_path, '--out', out) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in runs['segmentor'][1].iterdir())
    assert not (tmp_path / 'maps.partial').exists()


@pytest.mark.parametrize(('kind', 'out', 'message'), [
    ('detector', 'folder', '.json file'), ('detector', 'p.txt', '.json file'),
    ('detector', 'file/p.json', 'file is not a folder'), ('segmentor', 'file/maps', 'file is not a folder'),
    ('detector', 'file/p.pkl', 'file is not a folder'), ('segmentor', 'file', 'go into a folder'),
    ('segmentor', 'p.json', 'go into a folder'), ('segmentor', 'full', 'something other than predictions')])
def test_out_that_cannot_be_written_is_found_first(kind, out, message, files, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    for name in ('folder', 'full'):
        (tmp_path / name).mkdir()
    (tmp_path / 'full' / 'photo.png').write_text('')
    assert tool('test', files[kind], files['checkpoint'], '--work-dir', tmp_path / 'w', '--out', tmp_path / out) == 2
    error = capsys.readouterr().err
    assert '--out' in error and message in error
    assert not (tmp_path / 'w').exists()


def test_a_work_dir_that_cannot_be_made_is_found_first(files, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert tool('test', files['detector'], files['checkpoint'], '--work-dir', tmp_path / 'file' / 'w') == 2
    assert '--work-dir' in capsys.readouterr().err


@pytest.mark.parametrize(('name', 'config', 'row', 'text'), [
    ('auto', 'configs/cascade/convnext_t_3x.py', 'cascade/convnext_t_3x.py', 'Cascade Mask R-CNN, tiny, ImageNet-1K'),
    ('auto', 'configs/demo/cascade.py', None, 'none: configs/demo/cascade.py is not one of the published configs'),
    ('none', 'configs/cascade/convnext_t_3x.py', None, 'not compared'),
    ('upernet/convnext_s_512_160k', 'my.py', 'upernet/convnext_s_512_160k.py', 'UPerNet'),
    ('mask_rcnn/convnext_t_3x.py', 'my.py', 'mask_rcnn/convnext_t_3x.py', 'Mask R-CNN')])
def test_reference(name, config, row, text):
    reference = figures.find_reference(name, config)
    assert (reference.row or {}).get('config') == row and text in reference.text


@pytest.mark.parametrize(('arguments', 'message'), [
    (('--reference', 'resnet'), 'expected auto, none, or one of mask_rcnn/convnext_t_3x, cascade/'),
    (('--reference', 'upernet/convnext_t_512_160k'), 'of another task')])
def test_wrong_references(arguments, message, files, capsys):
    assert tool('test', files['detector'], files['checkpoint'], *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(('protocol', 'published', 'name'), [
    ('single-scale', 46.0, 'evaluation.json'), ('multi-scale', 46.7, 'evaluation_multi_scale.json')])
def test_each_protocol_has_its_published_figure(protocol, published, name, tmp_path):
    row = figures.find_reference('upernet/convnext_t_512_160k', '')
    run = dict(config='c.py', protocol=protocol, weights=None)
    content = figures.make_scores(run, [Tested(2000, 2000, 'a')], dict(mIoU=47.0, aAcc=80.), (), row)
    assert 'do not compare' not in content['published']
    assert [f['published'] for f in content['figures']] == [published, None]
    assert content['figures'][0]['difference'] == pytest.approx(47 - published)
    figures.write_scores(content, tmp_path)
    assert json.loads((tmp_path / name).read_text()) == content
    assert f'mIoU       47.00      {published:.2f}       +{47 - published:.2f}' in figures.format_scores(content)
    markdown = (tmp_path / name).with_suffix('.md').read_text()
    assert f'| mIoU | 47.00 | {published:.2f} | +{47 - published:.2f} |' in markdown


def test_detectors_have_no_published_multi_scale_figure():
    row = figures.find_reference('cascade/convnext_t_3x', '')
    run = dict(config='c.py', protocol='multi-scale', weights=None)
    content = figures.make_scores(run, [Tested(5000, 5000, 'a')], {'coco/bbox_mAP': .5}, (), row)
    assert content['figures'][0]['measured'] == 50 and content['figures'][0]['published'] is None


def test_figures_of_other_metrics_are_written(tmp_path):
    """mmseg's own has NumPy's numbers, mmpretrain's matrix of confusion is a tensor."""
    run = dict(config='c.py', protocol='single-scale', weights=None)
    measured = {'mIoU': np.float32(47), 'aAcc': np.float32('nan'), 'coco/bbox_mAP': np.float64(.5),
                'confusion_matrix/result': torch.eye(2)}
    content = figures.make_scores(run, [Tested(2, 2, 'a')], measured, (), figures.find_reference('none', ''))
    figures.write_scores(content, tmp_path)
    written = json.loads((tmp_path / 'evaluation.json').read_text())
    assert [figure['measured'] for figure in written['figures']] == [47, None, 50, [[1, 0], [0, 1]]]
    assert 'mIoU' in figures.format_scores(content)


@pytest.mark.parametrize(('weights', 'words'), [
    (None, 'not stored'), ('a.pth', 'not stored'), ({}, 'not stored'), (dict(source='a.pth'), 'a.pth'),
    (dict(source='a.pth', epoch=3), 'a.pth (epoch 3)')])
def test_weights_of_which_little_is_stored(weights, words):
    """As predict stores them, or as another program does."""
    assert describe_weights(weights).startswith(words)


def test_official_weights_are_told_by_name(tmp_path):
    path = tmp_path / 'upernet_convnext_tiny_1k_512x512.pth'
    torch.save(dict(state_dict={}), path)
    run = describe_run('c.py', str(path), str(path), True)
    assert run['protocol'] == 'multi-scale'
    assert 'published as upernet_convnext_tiny_1k_512x512, sha256 ' in describe_weights(run['weights'])


def test_masks_with_scores_of_their_own():
    """As Mask Scoring R-CNN has them: COCO sorts masks by these."""
    annotation, = predictions.to_annotations(
        5, np.array([[1, 2, 4, 8]], np.float32), np.array([.5], np.float32), np.array([1]), [10, 20],
        np.ones((1, 9, 9), bool), np.array([.25], np.float32))
    assert annotation['segmentation'].pop('counts') and annotation == dict(
        image_id=5, category_id=20, bbox=[1, 2, 3, 6], score=.5, mask_score=.25, segmentation=dict(size=[9, 9]))


@pytest.mark.parametrize('reduce_zero_label', [True, False])
def test_index_maps_of_many_classes(tmp_path, reduce_zero_label):
    values = np.arange(300).reshape(15, 20)
    predictions.write_index_map(tmp_path / 'a' / 'm.png', values, reduce_zero_label)
    assert np.array_equal(predictions.read_index_map(tmp_path / 'a' / 'm.png', reduce_zero_label), values)


def test_no_evaluator_that_stores(files):
    from convnext_mm.apis.config import read_config
    cfg = read_config(files['detector'])
    cfg.test_evaluator = dict(type='VOCMetric')
    own = evaluators.use_own_metrics(cfg)
    assert own == []
    with pytest.raises(UserError, match='needs a CocoMetric'):
        evaluators.check_out(cfg, own, 'p.json')


@pytest.mark.parametrize(('setting', 'replaced'), [
    ({}, True),
    # As every base config of mmdet has it.
    ({'format_only': False}, True),
    # As mmengine reads a base config by its name.
    ({'format_only': False, '_scope_': 'mmdet'}, True),
    ({'format_only': True}, False),
    ({'proposal_nums': (1, 10, 100)}, False)])
def test_evaluators_of_mm_that_are_replaced(files, setting, replaced):
    from convnext_mm.apis.config import read_config
    cfg = read_config(files['detector'])
    cfg.test_evaluator = dict(type='CocoMetric', ann_file='a.json', metric=['bbox', 'segm'], **setting)
    assert bool(evaluators.use_own_metrics(cfg)) == replaced
    assert cfg.test_evaluator[0].type == ('convnext_mm.CocoMetric' if replaced else 'CocoMetric')
