"""The corruptions of detectors' and segmentors' images, and the means that follow from the figures."""
import json
from argparse import Namespace

import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from convnext_mm.evaluation import corruptions
from convnext_mm.evaluation.cells import Cell, store_cell
from convnext_mm.evaluation.corruptions import CorruptImage, corrupt_dataset, make_cells, summarise
from convnext_mm.utils.errors import UserError

NAMES = corruptions.corruptions()


def photograph(file='a.png', side=48):
    """Results of a pipeline that has read an image: soft patches of colour."""
    y, x = np.mgrid[:side, :side + 16] / side
    image = np.stack([np.sin(3 * x) ** 2, np.cos(4 * y) ** 2, x * y / 2], -1) * 255
    return dict(img_path=f'folder/{file}', img=image.astype(np.uint8))


def corrupt(name, severity=3, **settings):
    results = photograph(**settings)
    before = results['img'].copy()
    after = CorruptImage(name, severity)(results)['img']
    assert (after.shape, after.dtype) == (before.shape, before.dtype) and after.flags['C_CONTIGUOUS']
    return before, after


@METRICS.register_module()
class GivenFigures(BaseMetric):
    """Measures what it is given."""

    def __init__(self, figures):
        super().__init__()
        self.figures = figures

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return self.figures


@pytest.mark.parametrize(('given', 'figures'), [
    (dict(mIoU=np.float32(40), aAcc=float('nan'), table='text'), dict(mIoU=40)), ({}, None),
    ({'coco/bbox_mAP': -1.}, None)])
def test_figures_of_a_cell_are_its_numbers(given, figures):
    cfg = ConfigDict(test_evaluator=dict(type='GivenFigures', figures=given), test_dataloader=dict(
        dataset=[1, 2], batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False)))
    model = Namespace(test_step=lambda batch: [])
    if figures is None:
        with pytest.raises(UserError, match='test_evaluator measures nothing'):
            corruptions.measure_cell(model, cfg, make_cells(True)[0])
    else:
        assert corruptions.measure_cell(model, cfg, make_cells(True)[0]) == figures


def test_corruptions_are_those_of_the_library():
    pytest.importorskip('imagecorruptions', reason='the extra "robustness" is not installed')
    from imagecorruptions import get_corruption_names
    assert get_corruption_names() == NAMES and set(corruptions.QUICK[0]) < set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_each_corruption_is_drawn_alike_and_leaves_other_draws_alone(name):
    pytest.importorskip('imagecorruptions', reason='the extra "robustness" is not installed')
    np.random.seed(5)
    wanted = np.random.rand()
    np.random.seed(5)
    for severity in corruptions.SEVERITIES:
        before, after = corrupt(name, severity)
        assert (before != after).any()
    assert np.random.rand() == wanted
    np.random.seed(99)
    assert np.array_equal(after, corrupt(name, severity)[1])
    if name in ('gaussian_noise', 'shot_noise', 'impulse_noise', 'glass_blur', 'motion_blur', 'snow', 'frost', 'fog',
                'elastic_transform'):
        assert not np.array_equal(after, corrupt(name, severity, file='b.png')[1])


def test_what_is_drawn_depends_on_the_files_name_the_corruption_and_the_severity(monkeypatch):
    pytest.importorskip('imagecorruptions', reason='the extra "robustness" is not installed')
    seeds = []
    monkeypatch.setattr(np.random, 'seed', seeds.append)
    for file in ('a.png', 'b.png', '../elsewhere/a.png'):
        for name in ('fog', 'brightness'):
            for severity in (1, 2):
                corrupt(name, severity, file=file)
    assert len(seeds) == 12 and len(set(seeds[:8])) == 8 and seeds[8:] == seeds[:4]


def test_channels_are_those_of_mm():
    """mm has blue first, the library red."""
    pytest.importorskip('imagecorruptions', reason='the extra "robustness" is not installed')
    from imagecorruptions import corrupt as library
    image = photograph()['img']
    expected = library(np.ascontiguousarray(image[..., ::-1]), 3, 'brightness')[..., ::-1]
    assert np.array_equal(CorruptImage('brightness', 3)(photograph())['img'], expected)


@pytest.mark.parametrize('image', [np.zeros((40, 40, 4), np.uint8), np.zeros((40, 40, 3), np.float32),
                                   np.zeros((31, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)])
def test_images_that_cannot_be_corrupted_are_named(image):
    pytest.importorskip('imagecorruptions', reason='the extra "robustness" is not installed')
    with pytest.raises(UserError, match='a.png is an image of .*corruptions are for uint8'):
        CorruptImage('fog', 1)(dict(img_path='a.png', img=image))


def test_images_are_corrupted_right_after_they_are_read():
    def leaf():
        return dict(type='CocoDataset', pipeline=[dict(type='mmcv.LoadImageFromFile'), dict(type='Resize')])
    dataset = ConfigDict(type='ConcatDataset', datasets=[leaf(), dict(type='RepeatDataset', dataset=leaf())])
    corrupt_dataset(dataset, Cell('corrupted', None, 'fog', 2))
    for inner in (dataset.datasets[0], dataset.datasets[1].dataset):
        assert [getattr(step, 'type', step) for step in inner.pipeline][::2] == ['mmcv.LoadImageFromFile', 'Resize']
        assert (inner.pipeline[1].corruption, inner.pipeline[1].severity) == ('fog', 2)
    dataset = ConfigDict(type='CocoDataset', pipeline=[dict(type='Resize')])
    with pytest.raises(UserError, match=r'test_dataloader\.dataset\.pipeline has no LoadImageFromFile'):
        corrupt_dataset(dataset, Cell('corrupted', None, 'fog', 2))


def test_an_error_of_a_worker_is_one_line(monkeypatch):
    """It comes with the worker's traceback."""
    class Loader:
        dataset = None

        def __iter__(self):
            raise UserError('Caught UserError in a worker.\nTraceback:\n  x\nmodule.UserError: b.png is too small\n')
    monkeypatch.setattr(corruptions.Runner, 'build_dataloader', lambda loader: Loader())
    cfg = ConfigDict(test_dataloader={}, test_evaluator=dict(type='Evaluator', metrics=[]))
    with pytest.raises(UserError) as info:
        corruptions.measure_cell(None, cfg, Cell('corrupted/clean'))
    assert str(info.value) == 'b.png is too small'


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(corruptions.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'convnext_mm\[robustness\]'"):
        corruptions.check_library()


def test_figures_equal_an_independent_computation(tmp_path):
    cells, draw = make_cells(quick=False), np.random.default_rng(0)
    assert len(cells) == 76 and cells[0].name == 'corrupted/clean' and cells[-1].name == 'corrupted/jpeg_compression-5'
    assert {cell.name for cell in make_cells(quick=True)} < {cell.name for cell in cells}
    for cell in cells:
        figures = {'box AP': 90 * draw.random(), 'box AP50': 1., 'mask AP': 0. if not cell.corruption else 1.}
        store_cell(tmp_path, cell, 'm', dict(figures=figures))
    store_cell(tmp_path / 'none', cells[0], 'm', dict(figures={}))
    assert corruptions.read_figures(tmp_path / 'none', cells[0], 'm') is None, 'it is measured again'
    found = summarise({cell: corruptions.read_figures(tmp_path, cell, 'm') for cell in cells})
    stored = {file.stem: json.loads(file.read_text())['figures']['box AP'] for file in tmp_path.glob('*/*.json')}
    clean = stored.pop('clean')
    assert list(found) == ['box AP', 'mask AP'] and found['box AP']['clean'] == clean
    assert found['box AP']['mPC'] == pytest.approx(np.mean(list(stored.values())))
    assert found['box AP']['relative_mPC'] == pytest.approx(100 * np.mean(list(stored.values())) / clean)
    assert found['box AP']['corrupted']['fog'] == {s: stored[f'fog-{s}'] for s in range(1, 6)}
    assert found['mask AP']['relative_mPC'] is None
    lines = corruptions.format_summary(found).splitlines()
    assert lines[2] == (f'| box AP | {clean:.1f} | {found["box AP"]["mPC"]:.1f} | '
                        f'{found["box AP"]["relative_mPC"]:.1f} % |')
    assert sum(line.startswith('| fog |') for line in lines) == 2
    quick = corruptions.format_summary(summarise({cell: {'PQ': 1.} for cell in make_cells(quick=True)}))
    assert 'mPC of 3 corruptions, 2 severities' in quick and '| PQ | 1.0 | 1.0 | 100.0 % |' in quick


@pytest.mark.parametrize('content', ['{"model": "m"}', '{"model": "m", "figures": {"a": null}}', '[]',
                                     '{"model": "m", "figures": [1]}'])
def test_files_without_figures_are_named(tmp_path, content):
    (tmp_path / 'corrupted').mkdir()
    (tmp_path / 'corrupted/fog-1.json').write_text(content)
    with pytest.raises(UserError, match='fog-1.json holds no results'):
        corruptions.read_figures(tmp_path, Cell('corrupted', None, 'fog', 1), 'm')
