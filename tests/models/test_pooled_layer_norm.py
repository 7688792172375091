"""The neck of classifiers, and the backbone in front of it."""
import pytest
import torch
import torch.nn.functional as F

from convnext_mm import ConvNeXt
from convnext_mm.models import PooledLayerNorm
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError
from tests.helpers.models import randomise

TINY = dict(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32))


def test_it_pools_the_last_map_and_then_normalises():
    neck = randomise(PooledLayerNorm(6))
    maps = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 3, generator=torch.Generator().manual_seed(0))
    output, = neck(maps)
    expected = F.layer_norm(maps[1].flatten(2).mean(2), (6,), neck.norm.weight, neck.norm.bias, 1e-6)
    assert output.shape == (2, 6) and torch.allclose(output, expected, atol=1e-6)


def test_the_backbone_of_a_classifier_has_no_norms_and_trains_whole():
    backbone = ConvNeXt(TINY, out_indices=(3,), out_norms=False)
    whole = ConvNeXt(TINY, out_indices=(3,))
    assert [name for name in whole.state_dict() if name not in backbone.state_dict()] == ['norm3.weight', 'norm3.bias']
    backbone.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if name[:4] != 'norm'})
    images = torch.rand(2, 3, 64, 64)
    (features,), (normed,) = backbone.eval()(images), whole.eval()(images)
    assert torch.equal(whole.norm3(features), normed) and features.is_contiguous()
    PooledLayerNorm(32)((features,))[0].sum().backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(('channels', 'error'), [(0, ArgumentValueError), ('8', ArgumentTypeError)])
def test_bad_channels(channels, error):
    with pytest.raises(error, match='in_channels must be'):
        PooledLayerNorm(channels)
