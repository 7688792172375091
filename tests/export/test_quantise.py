"""Files in int8: smaller, with as much in float32 as it takes, or refused."""
import shutil

import numpy as np
import pytest

pytest.importorskip('mmseg', reason='the file is that of a model of mmseg')
pytest.importorskip('onnxruntime', reason='the extra "export" is not installed')

from convnext_mm.export import quantise
from convnext_mm.export.check import CASES, ExportError, images_of
from convnext_mm.export.formats import FORMATS
from convnext_mm.export.kept import counted

LABELS = counted(('labels',))
INPUTS = [(images_of(case)[:1].numpy(), np.array((case.height, case.width))) for case in CASES]


@pytest.mark.filterwarnings('ignore')
def test_as_little_stays_in_float32_as_loses_little_enough(onnx_file, tmp_path, monkeypatch):
    path, shares = tmp_path / 'model.onnx', iter((.5, .5, .5, .97))
    shutil.copy(onnx_file, path)
    monkeypatch.setitem(quantise.LEAST, 'labels', .7)
    # Two of five images are held back.
    tried = quantise.quantise(path, INPUTS, LABELS._replace(share=lambda *pair: next(shares)))
    assert [(row.kept, row.share) for row in tried] == [
        ('all', 1), ('depthwise layers', .5), ('last and depthwise layers', pytest.approx(.735))]
    assert tried[0].megabytes > tried[2].megabytes > tried[1].megabytes
    facts = FORMATS['.onnx'].read_facts
    assert facts(path) == dict(facts(onnx_file), int8='all but last and depthwise layers')
    assert [file.name for file in tmp_path.iterdir()] == ['model.onnx']
    assert path.stat().st_size < onnx_file.stat().st_size
    expected, found = (FORMATS['.onnx'].open(file)(*INPUTS[0]) for file in (onnx_file, path))
    # Calibrated well, most labels of even a random model stay.
    assert (expected[0] == found[0]).mean() > .7


@pytest.mark.filterwarnings('ignore')
def test_file_that_loses_too_much_stays_as_it_is(onnx_file, tmp_path, monkeypatch):
    path = tmp_path / 'model.onnx'
    shutil.copy(onnx_file, path)
    monkeypatch.setattr(quantise, 'KEPT', quantise.KEPT[-1:])
    with pytest.raises(ExportError, match='in int8 40.0% of the labels are those of float32, 99% must be'):
        quantise.quantise(path, INPUTS, LABELS._replace(share=lambda *pair: .4))
    assert path.read_bytes() == onnx_file.read_bytes() and len(list(tmp_path.iterdir())) == 1
