"""Prediction in bfloat16: what computes in it, and what stays in float32."""
from contextlib import nullcontext

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import MODELS

from convnext_mm import ConvNeXt
from convnext_mm.models import precision
from convnext_mm.utils.errors import ArgumentValueError
from tests.helpers.paths import ROOT


class Operator(nn.Module):
    """In the place of an operator of mmcv, which has no bfloat16."""

    __module__ = 'mmcv.ops.made_up'

    def forward(self, maps, scale):
        assert maps[0].dtype == torch.float32 and not torch.is_autocast_cpu_enabled()
        assert maps[0].is_contiguous()
        return maps[0] * scale


class DenseHead(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.conv_cls = nn.Conv2d(channels, 3, 3), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        self.seen = self.conv(x)
        self.last = self.conv_cls(self.seen)
        return self.seen, {'scores': [self.last.sigmoid()]}


class Model(nn.Module):
    """Calls its head as mmseg does (``forward``)."""

    def __init__(self):
        super().__init__()
        self.backbone, self.operator, self.head = ConvNeXt('atto', out_indices=(3,)), Operator(), DenseHead(320)
        self.neck = nn.Conv2d(320, 320, 1)

    def forward(self, x):
        x = self.neck(*self.backbone(x))
        return self.head.forward(self.operator([x], scale=2))


@torch.no_grad()
@pytest.mark.parametrize('wrapped', [False, True])
def test_the_network_alone_is_in_bfloat16(wrapped):
    model, x = Model().eval(), torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    expected = model(x)[0]
    outer = nn.DataParallel(model) if wrapped else model
    precision.predict_in_bfloat16(outer)
    found, others = model(x)
    assert (model.head.seen.dtype, model.head.last.dtype) == (torch.bfloat16, torch.float32)
    assert {found.dtype, others['scores'][0].dtype} == {torch.float32}
    assert model.head.seen.is_contiguous(memory_format=torch.channels_last)
    assert 0 < (found - expected).abs().max() < .05 * expected.abs().max()
    assert not torch.is_autocast_cpu_enabled()


@torch.no_grad()
@pytest.mark.parametrize('arguments', [{}, dict(use_grn=True, layer_scale_init_value=0.), dict(output_stride=8)])
def test_weights_that_were_converted_before_give_the_same_bits(arguments):
    torch.manual_seed(0)
    model, x = nn.Module(), torch.randn(2, 3, 64, 96)
    model.backbone = ConvNeXt('atto', **arguments).eval()
    model.forward = model.backbone.forward
    with torch.autocast('cpu', torch.bfloat16):
        expected = model(x)
    learned = {name: value.clone() for name, value in model.state_dict().items()}
    precision.predict_in_bfloat16(model)
    # Test loops load the checkpoint afterwards.
    for load in (lambda: None, lambda: model.load_state_dict(learned)):
        load()
        for found, plain in zip(model(x), expected, strict=True):
            assert found.dtype == plain.dtype and torch.equal(found, plain)
    block, down = model.backbone.stages[1][0], model.backbone.downsample_layers[1]
    assert {layer.weight.dtype for layer in (block.dwconv, block.pwconv1, block.pwconv2, down[1])} == {torch.bfloat16}
    assert {norm.weight.dtype for norm in (block.norm, down[0], model.backbone.norm1)} == {torch.float32}


@torch.no_grad()
def test_regions_of_a_detector_have_the_features_of_float32():
    """mmcv's RoIAlign takes any map for contiguous."""
    mmdet = pytest.importorskip('mmdet.utils', reason='needs mmdet')
    mmdet.register_all_modules()
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(ROOT / 'configs/demo/cascade.py').model).eval()
    images, regions = torch.randn(1, 3, 96, 128), torch.tensor([[0, 3, 5, 60, 70.], [0, 40, 20, 120, 90]])

    def features():
        maps = model.extract_feat(images)
        return model.roi_head.bbox_roi_extractor[0](maps[:4], regions)
    expected = features()
    precision.predict_in_bfloat16(model)
    with torch.autocast('cpu', torch.bfloat16):
        found = features()
    assert 0 < (found - expected).abs().max() < .05 * expected.abs().max()


@pytest.mark.parametrize(('name', 'device', 'exported', 'supported', 'refused'), [
    ('float32', 'cpu', True, False, None), ('bfloat16', 'cpu', False, True, None),
    ('bfloat16', 'cuda', False, False, None),
    ('bfloat16', 'cpu', False, False, 'no instructions'), ('bfloat16', 'cpu', True, True, 'is for checkpoints')])
def test_where_a_precision_is_refused(name, device, exported, supported, refused, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: supported)
    with pytest.raises(ArgumentValueError, match=f'--precision bfloat16 .*{refused}') if refused else nullcontext():
        precision.check_precision(name, device, exported)
