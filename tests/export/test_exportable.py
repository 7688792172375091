"""Parts that exporters follow do what those do that they stand for."""
import pytest
import torch
from torch import nn

from convnext_mm.export.exportable import AdaptivePool, exportable


@pytest.mark.parametrize('bins', [(1, 1), (2, 3), (6, 6), (7, 2)])
@pytest.mark.parametrize('size', [(1, 1), (2, 5), (6, 6), (7, 13), (16, 32)])
def test_means_are_those_of_torch(bins, size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(AdaptivePool(bins)(x), nn.AdaptiveAvgPool2d(bins)(x), rtol=1e-5, atol=1e-6)


def test_parts_are_replaced_within_the_block_alone():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.AdaptiveAvgPool2d(3)))
    before = list(model.modules())
    with exportable(model):
        # One bin is a mean, which every format has.
        assert [type(model[0]), type(model[1][0])] == [nn.AdaptiveAvgPool2d, AdaptivePool]
        assert model[1][0].output_size == (3, 3)
    assert list(model.modules()) == before


def test_upsampling_of_mmseg_is_that_of_torch():
    wrappers = pytest.importorskip('mmseg.models.utils', reason='the part is of mmseg')
    model = nn.Sequential(wrappers.Upsample(scale_factor=2, mode='bilinear', align_corners=False),
                          wrappers.Upsample(size=(9, 8)))
    x = torch.randn(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = model(x)
    with exportable(model):
        assert [type(part).__module__.partition('.')[0] for part in model] == ['torch', 'mmseg']
        torch.testing.assert_close(model(x), expected)
