"""Files in int8: smaller, with as much in float32 as it takes, or refused."""
import shutil

import numpy as np
import pytest

pytest.importorskip('mmseg', reason='the file is that of a model of mmseg')
pytest.importorskip('onnxruntime', reason='the extra "export" is not installed')

from mmengine.config import Config

from convnext_mm.export import quantise
from convnext_mm.export.check import CASES, ExportError, images_of
from convnext_mm.export.export import segmentor
from convnext_mm.export.exportable import exportable
from convnext_mm.export.formats import FORMATS, Graph
from tests.helpers.exported import build_random
from tests.helpers.paths import ROOT
from tests.helpers.small import shrink

INPUTS = [(images_of(case)[:1].numpy(), np.array((case.height, case.width))) for case in CASES]


@pytest.fixture(scope='module')
def exact(tmp_path_factory):
    cfg = shrink(Config.fromfile(ROOT / 'configs/upernet/convnext_t_512_160k.py'))
    graph, = segmentor(build_random(cfg), True).graphs
    path = tmp_path_factory.mktemp('exact') / 'model.onnx'
    with exportable(graph):
        FORMATS['.onnx'].write(Graph(graph, images_of(CASES[0]), True, graph.outputs), path, dict(part='whole'))
    return path


@pytest.mark.filterwarnings('ignore')
def test_as_little_stays_in_float32_as_loses_little_enough(exact, tmp_path, monkeypatch):
    path, shares = tmp_path / 'model.onnx', iter((.5, .5, .5, .97, .98, .99) * 2)
    shutil.copy(exact, path)
    monkeypatch.setattr(quantise, '_labels_kept', lambda *pair: next(shares))
    monkeypatch.setattr(quantise, 'LABELS', .7)
    # Two of five images are held back.
    tried = quantise.quantise(path, INPUTS, True)
    assert [(row.kept, row.share) for row in tried] == [
        ('all', 1), ('nothing', .5), ('the last layers', pytest.approx(.735))]
    assert tried[0].megabytes > tried[2].megabytes > tried[1].megabytes
    assert FORMATS['.onnx'].read_facts(path) == dict(part='whole', int8='all but the last layers')
    assert [file.name for file in tmp_path.iterdir()] == ['model.onnx'] and path.stat().st_size < exact.stat().st_size
    expected, found = (FORMATS['.onnx'].open(file)(*INPUTS[0]) for file in (exact, path))
    # Calibrated well, most labels of even a random model stay.
    assert (expected[0] == found[0]).mean() > .7
    assert quantise.format_tried(tried, True).splitlines()[0].split() == [
        'in', 'float32', 'same', 'labels', 'MB', 'ms', 'an', 'image']


@pytest.mark.filterwarnings('ignore')
def test_file_that_loses_too_much_stays_as_it_is(exact, tmp_path, monkeypatch):
    path = tmp_path / 'model.onnx'
    shutil.copy(exact, path)
    monkeypatch.setattr(quantise, 'KEPT', quantise.KEPT[-1:])
    monkeypatch.setattr(quantise, '_labels_kept', lambda *pair: .4)
    with pytest.raises(ExportError, match='in int8 40.0% of the labels are those of float32, 99% must be'):
        quantise.quantise(path, INPUTS, True)
    assert path.read_bytes() == exact.read_bytes() and len(list(tmp_path.iterdir())) == 1


def test_detections_that_stay_are_of_the_same_class_in_the_same_place():
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 5, 5.]]])
    exact = [boxes, np.array([[.9, .8, .1]]), np.array([[0, 1, 2]]), np.array([3])]
    moved, other, fewer = ([part.copy() for part in exact] for _ in range(3))
    moved[0][0, 0] += 4
    other[2][0, 1] = 5
    fewer[3][0] = 0
    kept = [quantise._detections_kept(exact, found) for found in (exact, moved, other, fewer)]
    assert kept == [1, .5, .5, 0]
    assert quantise._detections_kept(fewer, exact) == 1
