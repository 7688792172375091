"""Files with weights in float16: half as large, giving what a model with rounded weights gives; or as they were."""
import numpy as np
import pytest
import torch
from torch import nn

from convnext_mm.export import half
from convnext_mm.export.check import ExportError
from convnext_mm.export.formats import FORMATS, Graph, files_of
from convnext_mm.export.kept import counted

for package in ('onnx', 'onnxruntime', 'openvino'):
    pytest.importorskip(package, reason='the extra "export" is not installed')

INPUTS = [(torch.rand(2, 3, side, 16, generator=torch.Generator().manual_seed(side)).numpy(),) for side in (16, 21)]
VALUES = counted(('y',))


def write(folder, ending, largest=1.):
    """Write a small model; its bias is one of float16."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.GELU(), nn.Conv2d(64, 64, 3, bias=False)).eval()
    model[0].bias.data.fill_(.5)
    model[2].weight.data[0, 0, 0, 0] *= largest / model[2].weight[0, 0, 0, 0].abs()
    path = folder / f'model{ending}'
    FORMATS[ending].write(Graph(model, torch.from_numpy(INPUTS[0][0]), False, ('y',)), path, dict(part='whole'))
    return model, path


@pytest.mark.parametrize('ending', half.WRITE)
@pytest.mark.filterwarnings('ignore')
def test_file_is_half_as_large_and_gives_what_rounded_weights_give(tmp_path, ending):
    model, path = write(tmp_path, ending)
    files = {file.name for file in tmp_path.iterdir()}
    before, after = half.halve(path, INPUTS, VALUES)
    assert (before.kept, before.share, after.share) == ('all', 1, 1)
    assert after.megabytes < .6 * before.megabytes
    assert after.megabytes == pytest.approx(sum(file.stat().st_size for file in files_of(path)) / 1e6)
    assert {file.name for file in tmp_path.iterdir()} == files
    form = FORMATS[ending]
    assert form.read_facts(path) == dict(part='whole', half='weights')
    found, = form.open(path)(*INPUTS[0])
    with torch.no_grad():
        exact = model(torch.from_numpy(INPUTS[0][0])).numpy()
        rounded = model.half().float()(torch.from_numpy(INPUTS[0][0])).numpy()
    np.testing.assert_allclose(found, rounded, rtol=1e-5, atol=1e-6)
    assert np.abs(found - exact).max() > 1e-5


@pytest.mark.filterwarnings('ignore')
def test_weights_beyond_the_range_of_float16_stay(tmp_path):
    model, path = write(tmp_path, '.onnx', largest=1e6)
    before, after = half.halve(path, INPUTS, VALUES)
    assert after.share == 1 and after.megabytes > .9 * before.megabytes
    with torch.no_grad():
        expected = model(torch.from_numpy(INPUTS[0][0])).numpy()
    found, = FORMATS['.onnx'].open(path)(*INPUTS[0])
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize('ending', half.WRITE)
@pytest.mark.filterwarnings('ignore')
def test_file_that_loses_too_much_stays_as_it_is(tmp_path, monkeypatch, ending):
    _, path = write(tmp_path, ending)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setitem(half.LEAST, 'values', 1.001)
    with pytest.raises(ExportError, match='float16 100.00% of the values are those of float32, 100.1% must be'):
        half.halve(path, INPUTS, VALUES)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
