"""Training passes over broken files, names each once, and replaces it by the same one each time; tests stop at them."""
import json
import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from convnext_mm.datasets import guard as bad_samples
from convnext_mm.datasets import shapes
from convnext_mm.datasets.guard import BadDataError, build_guarded, guard_data

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')

COUNT = 6


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp('drawn')
    shapes.generate_coco(root / 'coco', train=COUNT, val=1, width=64, height=64)
    shapes.generate_ade(root / 'ade', train=COUNT, val=1, width=64, height=64)
    return root


def settings(kind, root, **changes):
    """A small data set of the demo's family, and its files of images."""
    init_default_scope('mmdet' if kind == 'coco' else 'mmseg')
    if kind == 'coco':
        return dict(type='CocoDataset', data_root=str(root), ann_file='annotations/instances_train2017.json',
                    data_prefix=dict(img='train2017/'), metainfo=dict(classes=shapes.CLASSES), pipeline=[
                        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                        dict(type='PackDetInputs')], **changes)
    return dict(type='BaseSegDataset', data_root=str(root), img_suffix='.png', reduce_zero_label=True,
                data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
                metainfo=dict(classes=shapes.SEMANTIC_CLASSES), pipeline=[
                    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
                **changes)


@pytest.fixture
def make(drawn, tmp_path):
    """``make(kind)`` copies a data set, which can then be broken; returns its folder."""
    def copy(kind):
        for source in (drawn / kind).rglob('*'):
            if source.is_file():
                target = tmp_path / kind / source.relative_to(drawn / kind)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
        return tmp_path / kind
    return copy


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Everything that is logged, by worker processes too: they share the file."""
    file = tmp_path / 'log.txt'

    def write(text, **_):
        with open(file, 'a') as log:
            log.write(f'{text}\n')

    monkeypatch.setattr(bad_samples, 'print_log', write)
    return lambda: file.read_text().splitlines() if file.exists() else []


def images(root):
    return sorted((root / ('train2017' if root.name == 'coco' else 'images/training')).glob('*.png'))


def names(batch):
    return [sample.img_path.rsplit('/', 1)[1] for sample in batch['data_samples']]


def loader(dataset, workers):
    from mmengine.dataset import pseudo_collate
    return torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=pseudo_collate,
                                       persistent_workers=workers > 0)


BROKEN = [  # family, what is done to the second image's files, part of what is said
    ('coco', lambda root: images(root)[1].write_bytes(images(root)[1].read_bytes()[:900]), 'truncated image'),
    ('coco', lambda root: images(root)[1].write_bytes(b''), 'unreadable image: the file is empty'),
    ('coco', lambda root: images(root)[1].write_text('no image'), 'unreadable image'),
    ('coco', lambda root: images(root)[1].unlink(), 'missing file'),
    ('coco', lambda root: Image.new('RGB', (32, 40)).save(images(root)[1]), 'other size: 32 x 40'),
    ('coco', lambda root: edit(root, segmentation=dict(size=[9, 9], counts=[40, 41])), 'damaged mask'),
    ('coco', lambda root: edit(root, segmentation=None), 'empty mask'),
    ('ade', lambda root: images(root)[1].write_bytes(images(root)[1].read_bytes()[:900]), 'truncated image'),
    ('ade', lambda root: images(root)[1].write_bytes(b'no image'), 'unreadable image'),
    ('ade', lambda root: (root / 'annotations/training/shapes_train_00000002.png').unlink(), 'missing file'),
    ('ade', lambda root: (root / 'annotations/training/shapes_train_00000002.png').write_bytes(b'no'),
     'unreadable mask'),
]


def edit(root, **fields):
    file = root / 'annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    entry = next(entry for entry in content['annotations'] if entry['image_id'] == 2)
    entry.update(fields)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(('kind', 'break_it', 'said'), BROKEN)
def test_training_takes_the_next_sample(make, lines, kind, break_it, said):
    root = make(kind)
    before = [path.name for path in images(root)]
    break_it(root)
    dataset = build_guarded(settings(kind, root), 0.001)
    assert type(dataset).__name__ == settings(kind, root)['type']
    for _ in range(2):
        seen = [name for batch in loader(dataset, 0) for name in names(batch)]
        assert seen == [before[0], before[2], *before[2:]]
    line, = lines()
    assert line.startswith('Sample passed over (1 of at most 1): ')
    assert before[1] in line
    assert said in line


@pytest.mark.parametrize('kind', ['coco', 'ade'])
def test_validation_and_testing_stop_and_name_the_file(make, kind):
    root = make(kind)
    broken = images(root)[1]
    broken.write_bytes(b'')
    dataset = build_guarded(settings(kind, root, test_mode=True))
    dataset[0]
    with pytest.raises(BadDataError, match=rf'^{broken}: unreadable image: .*validation and testing.*check_data.py'):
        dataset[1]


def test_workers_count_together(make, lines):
    """Two broken images, met by two workers: each is named once, and a third stops the run with one line."""
    root = make('coco')
    for path in images(root)[::3]:
        path.write_bytes(b'')
    dataset = build_guarded(settings('coco', root), 2 / COUNT)
    batches = loader(dataset, 2)
    for _ in range(2):
        assert [name for batch in batches for name in names(batch)] == [f'{i:012d}.png' for i in (2, 2, 3, 5, 5, 6)]
    assert sorted(line.split(': ')[1].rsplit('/', 1)[1] for line in lines()) == ['000000000001.png', '000000000004.png']
    assert dataset.prepare_data.bad.tolist() == [True, False, False] * 2
    images(root)[1].write_bytes(b'')
    with pytest.raises(BadDataError) as info:
        list(batches)
    message = str(info.value)
    assert message.startswith(
        f'3 of {COUNT} training samples cannot be used, where max_bad_samples={2 / COUNT} allows 2: ')
    assert all(str(images(root)[i]) in message for i in (0, 1, 3))
    assert 'tools/check_data.py' in message
    assert 'Traceback' not in message


@pytest.mark.parametrize(('share', 'limit'), [(0, 0), (0.001, 1), (0.5, 3), (0.51, 4), (1, COUNT)])
def test_how_many_may_be_bad(make, share, limit):
    root = make('ade')
    dataset = build_guarded(settings('ade', root), share)
    for path in images(root)[:limit]:
        path.write_bytes(b'')
    if limit < COUNT:
        dataset[0]
        images(root)[limit].write_bytes(b'')
        with pytest.raises(BadDataError, match=rf'^{limit + 1} of {COUNT} training samples.*allows {limit}: '):
            dataset[limit]
    else:
        with pytest.raises(BadDataError, match=f'none of the {COUNT} samples'):
            dataset[0]


class Mistake:
    def __call__(self, results):
        raise KeyError('a mistake')


def test_mistakes_in_programs_are_raised_as_they_are(make, lines):
    root = make('coco')
    dataset = build_guarded(settings('coco', root), 1.)
    dataset.pipeline.transforms.insert(1, Mistake())
    with pytest.raises(KeyError, match='a mistake'):
        dataset[0]
    assert not lines()


def test_files_that_the_system_does_not_read(make, lines):
    """An error of the operating system counts as the data's, whatever the file holds by now."""
    root = make('coco')
    dataset = build_guarded(settings('coco', root), 1.)

    class Storage:
        def __call__(self, results):
            if results['img_id'] == 1:
                raise OSError(5, 'Input/output error')
            return results

    dataset.pipeline.transforms.insert(1, Storage())
    assert dataset[0]['data_samples'].img_id == 2
    assert 'Input/output error' in lines()[0]


@pytest.mark.parametrize('wrap', [
    lambda inner: dict(type='RepeatDataset', dataset=inner, times=2),
    lambda inner: dict(type='ConcatDataset', datasets=[inner, inner]),
    lambda inner: dict(type='MultiImageMixDataset', dataset=inner, pipeline=[dict(type='CachedMixUp')])],
    ids=['repeat', 'concat', 'mix'])
def test_inside_of_wrappers(make, lines, wrap):
    root = make('coco')
    images(root)[1].write_bytes(b'')
    wrapped = wrap(settings('coco', root))
    wrapped.get('pipeline', [])[:] = []
    dataset = build_guarded(wrapped, 0.001)
    assert names(dict(data_samples=[dataset[1]['data_samples']])) == ['000000000003.png']
    assert dataset.get_data_info(1)['img_id'] == 2
    assert len(dataset.metainfo['classes']) == 3
    assert 'prepare_data' not in vars(dataset)


def test_a_data_set_of_another_kind_is_left_alone():
    class Own(torch.utils.data.Dataset):
        def __len__(self):
            return 1

    DATASETS.register_module(module=Own, force=True)
    assert vars(build_guarded(dict(type='Own'), 0.1)) == {}


def test_spawned_workers_share_the_count(make):
    """They get the data set pickled, as torch.multiprocessing does it."""
    dataset = build_guarded(settings('coco', make('coco')), 0.5)
    copy = pickle.loads(ForkingPickler.dumps(dataset))
    assert copy.prepare_data.dataset is copy
    assert np.array_equal(copy[0]['inputs'], dataset[0]['inputs'])
    copy.prepare_data.bad[1] = True
    assert dataset.prepare_data.bad.tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize(('kind', 'break_it', 'message'), [
    ('coco', lambda root: edit(root, id=2), r'instances_train2017\.json: id used twice'),
    ('coco', lambda root: (root / 'annotations/instances_train2017.json').write_text('{"images": ['),
     'unreadable annotation file: not JSON'),
    ('coco', lambda root: edit(root, bbox=None), 'damaged entry'),
    ('coco', lambda root: (root / 'annotations/instances_train2017.json').unlink(), 'missing file'),
    ('ade', lambda root: (root / 'images/training').rename(root / 'images/gone'),
     'missing file: its images cannot be listed')])
def test_annotation_files_that_cannot_be_loaded(make, kind, break_it, message):
    root = make(kind)
    break_it(root)
    with pytest.raises(BadDataError, match=f'{message}.*tools/check_data.py'):
        build_guarded(settings(kind, root), 0.001)


def test_other_mistakes_of_a_data_set_are_raised_as_they_are(make, monkeypatch):
    root = make('coco')
    monkeypatch.setattr(DATASETS.get('mmdet.CocoDataset'), 'filter_data', lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_guarded(settings('coco', root), 0.001)


class FakeRunner:
    def __init__(self):
        self._train_dataloader = dict(dataset=dict(type='A'), batch_size=2)
        self._val_dataloader, self._test_dataloader = dict(dataset=object()), dict(dataset=dict(type='A'))


def test_what_a_runner_builds_is_guarded():
    runner = FakeRunner()
    given = runner._train_dataloader
    guard_data(runner, 0.25)
    assert runner._train_dataloader == dict(
        dataset=dict(type=build_guarded, dataset=dict(type='A'), max_bad_samples=0.25), batch_size=2)
    assert given == dict(dataset=dict(type='A'), batch_size=2), 'the config is left as it is'
    assert type(runner._val_dataloader['dataset']) is object
    assert runner._test_dataloader['dataset']['max_bad_samples'] is None


@pytest.mark.parametrize('share', [-0.1, 1.5, '0.1', True, None, float('nan')])
def test_shares_that_are_none(share):
    with pytest.raises(ValueError, match=r'max_bad_samples must be a number from 0 to 1.*got '):
        guard_data(FakeRunner(), share)


TOY = """
import sys, torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from convnext_mm.apis import cli
from convnext_mm.engine.runner.build import build_runner
from mmengine.config import Config

@MODELS.register_module()
class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.weight.sum() * inputs[0].float().mean())

def main(argv):
    build_runner(Config.fromfile(sys.argv[1])).train()

sys.exit(cli.run(main))
"""


def test_a_run_ends_with_one_line_and_code_2(make, tmp_path):
    """Through mmengine's runner, with persistent workers and mmdet's batch sampler."""
    root = make('coco')
    # The first is replaced by the second, so one worker meets both: two workers at once would both say that it is 2.
    for path in images(root)[:2]:
        path.write_bytes(b'')
    cfg = Config(dict(
        default_scope='mmdet', model=dict(type='Toy'), work_dir=str(tmp_path / 'work'), max_bad_samples=0.001,
        custom_hooks=[], randomness=dict(seed=0),
        train_dataloader=dict(batch_size=2, num_workers=2, persistent_workers=True,
                              sampler=dict(type='DefaultSampler', shuffle=False),
                              batch_sampler=dict(type='AspectRatioBatchSampler'), dataset=settings('coco', root)),
        train_cfg=dict(by_epoch=True, max_epochs=2), optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1))))
    cfg.dump(tmp_path / 'config.py')
    (tmp_path / 'toy.py').write_text(TOY)
    command = [sys.executable, str(tmp_path / 'toy.py'), str(tmp_path / 'config.py')]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr[-3000:]
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f'toy.py: error: 2 of {COUNT} training samples cannot be used, where max_bad_samples=0.001 allows 1: ')
    assert str(images(root)[1]) in last
    assert 'Traceback' not in result.stderr
    assert (result.stdout + result.stderr).count('Sample passed over (1 of at most 1)') == 1
    dumped, = (tmp_path / 'work').glob('*.py')
    assert "type='CocoDataset'" in dumped.read_text()
    assert 'max_bad_samples=' not in dumped.read_text(), 'a dumped config is the given one'
