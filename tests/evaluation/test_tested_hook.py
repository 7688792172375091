"""The validation of a training, a test and stored predictions: figures are those of the images that were tested."""
import json
import re
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from PIL import Image

from convnext_mm.apis import evaluate as evaluate_command
from convnext_mm.apis import test as test_command
from convnext_mm.apis.cli import main as run_command
from convnext_mm.datasets import shapes
from convnext_mm.evaluation import tested_hook
from tests.helpers.instances import forget_instances
from tests.helpers.paths import ROOT

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'evaluation needs {_toolbox}')

IMAGES = 6
COMMON = """
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=.1))
param_scheduler = []
default_hooks = dict(checkpoint=None)
train_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}'))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
"""
DETECTOR = """
_base_ = '{root}/configs/demo/cascade.py'
model = dict(_delete_=True, type='mmengine.PerfectTruth')
train_cfg = dict(max_epochs=1, val_interval=1)
val_evaluator = dict(ann_file='{data}annotations/instances_val2017.json')
test_evaluator = val_evaluator
""" + COMMON
SEGMENTOR = """
_base_ = '{root}/configs/demo/upernet.py'
model = dict(_delete_=True, type='mmengine.PerfectTruth', decode_head=dict())
train_cfg = dict(max_iters=1, val_interval=1)
""" + COMMON
PART = """
def part(data_root, **settings):
    return dict(type='CocoDataset', data_root=data_root, data_prefix=dict(img='val2017/'), test_mode=True, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape'))], **dict(dict(
            ann_file='annotations/instances_val2017.json',
            metainfo=dict(classes=('circle', 'square', 'triangle'))), **settings))
def concat(*parts):
    return dict(_delete_=True, type='ConcatDataset', datasets=list(parts))
"""
# The images of both have the same names.
FOLDERS = """
test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[dict(
    _base_.test_dataloader.dataset, data_root=root) for root in ('{data}', '{other_ade}')]))
"""
BOTH = PART + """
val_dataloader = dict(dataset=concat(part('{data}', indices=2), part('{other}', indices=[4, 1, 0])))
val_evaluator = dict(_delete_=True, type='MultiDatasetsEvaluator', dataset_prefixes=['a', 'b'], metrics=[
    dict(type='CocoMetric', metric=['bbox', 'segm'], ann_file=root + 'annotations/instances_val2017.json')
    for root in ('{data}', '{other}')])
"""


@MODELS.register_module()
class PerfectTruth(BaseModel):
    """Predicts the annotations, nothing in an image whose name ends with ``miss``, and fails on one with ``broken``."""

    miss = broken = None

    def __init__(self, decode_head=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.detects = decode_head is None

    def forward(self, inputs, data_samples, mode):
        from mmengine.structures import InstanceData
        if mode == 'loss':
            return dict(loss=self.weight.sum())
        for sample in data_samples:
            if self.broken and sample.img_path.endswith(self.broken):
                raise RuntimeError('no room')
            if not self.detects:
                sample.pred_sem_seg = sample.gt_sem_seg
                continue
            truth = sample.gt_instances[:0 if self.miss and sample.img_path.endswith(self.miss) else None]
            sample.pred_instances = InstanceData(
                bboxes=truth.bboxes.tensor, labels=truth.labels, scores=torch.linspace(.5, 1, len(truth)),
                masks=torch.from_numpy(truth.masks.masks.astype(bool)))
        return data_samples


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two sets of the same ids and names, and one of masks."""
    folder = tmp_path_factory.mktemp('shapes')
    for name, seed in (('coco', 0), ('other', 7)):
        shapes.generate_coco(folder / name, train=1, val=IMAGES, width=96, height=64, seed=seed)
    for name, seed in (('ade', 0), ('other_ade', 7)):
        shapes.generate_ade(folder / name, train=1, val=IMAGES, width=96, height=64, seed=seed)
    cleaned = json.loads((folder / 'coco/annotations/instances_val2017.json').read_text())
    gone = cleaned['images'].pop(2)['id']
    cleaned['annotations'] = [a for a in cleaned['annotations'] if a['image_id'] != gone]
    (folder / 'coco/annotations/cleaned.json').write_text(json.dumps(cleaned))
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), folder / 'a.pth')
    return folder


def write_config(folder, data, text, more=''):
    name = 'coco' if text is DETECTOR else 'ade'
    path = folder / 'c.py'
    # mmengine does not take a variable twice: what is added is a config of its own.
    for file, content in (('base.py', text), ('c.py', f"_base_ = 'base.py'\n{more}")):
        for key, value in dict(root=ROOT, data=f'{data / name}/', other=f'{data / "other"}/',
                               other_ade=f'{data / "other_ade"}/').items():
            content = content.replace(f'{{{key}}}', str(value))
        (folder / file).write_text(content)
    return path


def tool(name, *arguments):
    return run_command(name, list(map(str, arguments)))


def figures_of(work_dir):
    """What a validation logged last."""
    lines = [json.loads(line) for file in work_dir.glob('*/vis_data/scalars.json') for line in file.read_text().split(
        '\n') if line]
    return next(line for line in lines if any('mAP' in key or key == 'mIoU' for key in line))


ANNOTATIONS = 'annotations/instances_val2017.json'
# The config, what is added, the words for the images, and the figures that must be 100 (COCO's are from 0 to 1).
CASES = {
    'whole': (DETECTOR, '', [f'6 of 6 images of {{data}}/coco/{ANNOTATIONS}'],
              {'coco/bbox_mAP': 1, 'coco/segm_mAP': 1}),
    'indices': (DETECTOR, 'val_dataloader = dict(dataset=dict(indices=2))\n',
                [f'2 of 6 images of {{data}}/coco/{ANNOTATIONS}'], {'coco/bbox_mAP': 1, 'coco/segm_mAP': 1}),
    'cleaned': (DETECTOR, "val_dataloader = dict(dataset=dict(ann_file='annotations/cleaned.json'))\n",
                [f'5 of 6 images of {{data}}/coco/{ANNOTATIONS}'], {'coco/bbox_mAP': 1, 'coco/segm_mAP': 1}),
    'parts': (DETECTOR, BOTH, [f'2 of 6 images of {{data}}/coco/{ANNOTATIONS}',
                               f'3 of 6 images of {{data}}/other/{ANNOTATIONS}'],
              {'a/coco/bbox_mAP': 1, 'a/coco/segm_mAP': 1, 'b/coco/bbox_mAP': 1, 'b/coco/segm_mAP': 1}),
    'masks': (SEGMENTOR, 'val_dataloader = dict(dataset=dict(indices=[5, 0, 2]))\n',
              ['3 of 6 images of {data}/ade/images/validation'], {'mIoU': 100})}


@pytest.mark.parametrize('name', CASES)
def test_validation_of_a_training(name, data, tmp_path):
    text, more, images, figures = CASES[name]
    config = write_config(tmp_path, data, text, more)
    forget_instances()
    assert tool('train', config, '--work-dir', tmp_path / 'w') == 0
    found = figures_of(tmp_path / 'w')
    assert {key: found[key] for key in figures} == figures
    log, = (tmp_path / 'w').glob('*/*.log')
    images = ', '.join(images).format(data=data)
    assert f'Images of the validation: {images}\n' in log.read_text()


@pytest.mark.parametrize('name', CASES)
def test_a_test_and_its_stored_predictions(name, data, tmp_path, capsys):
    text, more, images, figures = CASES[name]
    config, out = write_config(tmp_path, data, text, more.replace('val_', 'test_')), tmp_path / 'out'
    out = ['--out', out if text is SEGMENTOR else out.with_suffix('.json')] if name != 'parts' else []
    assert tool('test', config, data / 'a.pth', '--work-dir', tmp_path / 'w', *out) == 0
    images = ', '.join(images).format(data=data)
    assert f'images:    {images}\n' in capsys.readouterr().out
    scores = json.loads((tmp_path / 'w/evaluation.json').read_text())
    found = {figure['key']: figure['measured'] for figure in scores['figures']}
    assert {key: found[key] for key in figures} == dict.fromkeys(figures, 100)
    assert scores['tested'] == images and scores['images'] == sum(int(part[0]) for part in images.split(', '))
    if out:
        assert tool('evaluate', out[1], config, '--work-dir', tmp_path / 'again') == 0
        assert json.loads((tmp_path / 'again/evaluation.json').read_text()) == scores


def test_maps_of_images_of_one_name_are_kept_apart(data, tmp_path):
    config, out = write_config(tmp_path, data, SEGMENTOR, FOLDERS), tmp_path / 'out'
    assert tool('test', config, data / 'a.pth', '--work-dir', tmp_path / 'w', '--out', out) == 0
    assert len(list(out.rglob('*.png'))) == 2 * IMAGES
    assert tool('evaluate', out, config, '--work-dir', tmp_path / 'again') == 0
    scores = [json.loads((tmp_path / name / 'evaluation.json').read_text()) for name in ('w', 'again')]
    assert scores[0] == scores[1] and scores[0]['images'] == 2 * IMAGES
    assert scores[0]['figures'][0]['measured'] == 100


def test_an_image_in_which_nothing_is_found_is_missed(data, tmp_path, monkeypatch):
    config = write_config(tmp_path, data, DETECTOR, 'test_dataloader = dict(dataset=dict(indices=2))\n')
    monkeypatch.setattr(PerfectTruth, 'miss', '1.png')
    assert tool('test', config, data / 'a.pth', '--work-dir', tmp_path / 'w') == 0
    scores = json.loads((tmp_path / 'w/evaluation.json').read_text())
    assert 10 < scores['figures'][0]['measured'] < 90


@pytest.mark.parametrize('command', ['train', 'test'])
def test_an_image_on_which_the_model_fails_is_named(command, data, tmp_path, monkeypatch):
    config = write_config(tmp_path, data, DETECTOR)
    monkeypatch.setattr(PerfectTruth, 'broken', '1.png')
    forget_instances()
    with pytest.raises(RuntimeError, match='no room'):
        tool(command, config, *[data / 'a.pth'] * (command == 'test'), '--work-dir', tmp_path / 'w')
    log, = (tmp_path / 'w').glob('*/*.log')
    assert re.findall(r'RuntimeError on (.*)', log.read_text()) == [f'{data}/coco/val2017/000001000001.png']


@pytest.mark.parametrize('views', [1, 2])
def test_images_of_batches_are_named(views, monkeypatch):
    told = []
    monkeypatch.setattr(tested_hook, 'print_log', lambda text, **_: told.append(text))
    hook, samples = tested_hook.TestedImagesHook(), [Namespace(img_path='d/2.png')]
    hook.before_test_iter(None, 0, dict(data_samples=samples if views == 1 else [samples] * views))
    with pytest.raises(KeyError), hook.naming_images():
        raise KeyError
    assert told == ['KeyError on d/2.png']


REFUSED = {
    'ids that meet': ("test_dataloader = dict(dataset=concat(part('{data}'), part('{other}', ann_file='annotations/"
                      "instances_val2017.json')))\n", '6 of 6 images more than once.*MultiDatasetsEvaluator'),
    'a wrapper': ("test_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, "
                  "dataset=part('{data}')))\n", '6 of 6 images more than once.*RepeatDataset'),
    'other metainfo': ("test_dataloader = dict(dataset=concat(part('{data}', indices=2), part('{data}', indices=[3], "
                       "metainfo=dict(classes=('circle', 'square', 'triangle'), palette=[(1, 2, 3)] * 3))))\n",
                       'parts of test_dataloader.dataset have different metainfo'),
    'other classes': ("test_dataloader = dict(dataset=concat(part('{data}', indices=2), part('{data}', indices=[3], "
                      "metainfo=dict(classes=('circle', 'square')))))\n",
                      r'datasets.0 has the classes circle, square, triangle, .*datasets.1 has circle, square: ')}


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_evaluated_is_refused(name, data, tmp_path, capsys):
    more, message = REFUSED[name]
    config = write_config(tmp_path, data, DETECTOR, PART + more)
    assert tool('test', config, data / 'a.pth', '--work-dir', tmp_path / 'w') == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error), error


@pytest.mark.parametrize('command', ['test', 'evaluate'])
def test_predictions_of_several_data_sets_are_not_stored(command, data, tmp_path, capsys):
    config = write_config(tmp_path, data, DETECTOR, BOTH.replace('val_', 'test_'))
    arguments = [config, data / 'a.pth', '--out', tmp_path / 'p.json'] if command == 'test' else [
        tmp_path / 'p.json', config]
    assert tool(command, *arguments, '--work-dir', tmp_path / 'w') == 2
    assert 'MultiDatasetsEvaluator of several: test each of them' in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('own', [True, False])
def test_masks_with_values_beyond_the_classes(own, data, tmp_path, capsys, monkeypatch):
    """The checks before look at a sample of the masks alone."""
    for command in (test_command, evaluate_command):
        monkeypatch.setattr(command, 'check_data', lambda *_: [])
    shutil.copytree(data / 'ade', tmp_path / 'ade')
    config, out = write_config(tmp_path, tmp_path, SEGMENTOR), tmp_path / 'maps'
    assert tool('test', config, data / 'a.pth', '--work-dir', tmp_path / 'w', '--out', out) == 0
    mask = sorted((tmp_path / 'ade/annotations/validation').iterdir())[3]
    values = np.array(Image.open(mask))
    values[:2, :2] = 9
    Image.fromarray(values).save(mask)
    other = [] if own else ['--cfg-options', 'test_evaluator.output_dir=None']
    commands = {'test': (config, data / 'a.pth', *other)}
    if own:
        commands['evaluate'] = (out, config)
    for command, arguments in commands.items():
        assert tool(command, *arguments, '--work-dir', tmp_path / 'w') == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert f'{mask} has the values 8 beyond the 4 classes' in error, error
    found = sorted(out.glob('*.png'))[0]
    Image.fromarray(np.full((64, 96), 7, np.uint8)).save(found)
    assert tool('evaluate', out, config, '--work-dir', tmp_path / 'w') == 2
    assert f'{found} has the values 6 beyond' in capsys.readouterr().err.splitlines()[-1]
