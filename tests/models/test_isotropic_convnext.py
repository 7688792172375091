"""The isotropic ConvNeXt: published sizes, official checkpoints, maps for heads of plain transformers, layer decay."""
import re

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.registry import DefaultScope

from convnext_mm import IsotropicConvNeXt
from convnext_mm.checkpoint.convert import convert_file, describe_file
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read
from convnext_mm.checkpoint.fit import load_pretrained
from convnext_mm.checkpoint.mmengine_loader import load_checkpoint
from convnext_mm.checkpoint.state_dicts import convert
from convnext_mm.engine.optimizers.layer_decay import LayerDecayOptimWrapperConstructor
from convnext_mm.evaluation.cost import count_macs
from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.models.pooled_layer_norm import PooledLayerNorm
from convnext_mm.published.archs import ISOTROPIC_ARCHS
from convnext_mm.published.imagenet import published_imagenet
from tests.helpers.models import randomise, relative_difference

TINY = dict(depth=4, channels=16)
CLASSES = 7
IMAGES = torch.randn(2, 3, 64, 80, generator=torch.Generator().manual_seed(1))


class Official(nn.Module):
    """The official model with its names, computed by functions alone; written from the paper."""

    def __init__(self, depth=4, channels=16, scale=True):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, channels, 16, 16), nn.Sequential()
        for _ in range(depth):
            block = nn.Module()
            block.dwconv, block.norm = nn.Conv2d(channels, channels, 7, groups=channels), nn.LayerNorm(channels)
            block.pwconv1, block.pwconv2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
            if scale:
                block.gamma = nn.Parameter(torch.ones(channels))
            self.blocks.append(block)
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, CLASSES)

    def features(self, x):
        outputs, x = [], F.conv2d(x, self.stem.weight, self.stem.bias, stride=16)
        for block in self.blocks:
            y = F.conv2d(x, block.dwconv.weight, block.dwconv.bias, padding=3, groups=x.shape[1]).permute(0, 2, 3, 1)
            y = F.layer_norm(y, y.shape[-1:], block.norm.weight, block.norm.bias, 1e-6)
            y = F.linear(F.gelu(F.linear(y, block.pwconv1.weight, block.pwconv1.bias)), block.pwconv2.weight,
                         block.pwconv2.bias)
            x = x + (block.gamma * y if hasattr(block, 'gamma') else y).permute(0, 3, 1, 2)
            outputs.append(x)
        return outputs

    def forward(self, x):
        x = F.layer_norm(self.features(x)[-1].mean((2, 3)), (self.norm.weight.numel(),), self.norm.weight,
                         self.norm.bias, 1e-6)
        return F.linear(x, self.head.weight, self.head.bias)


def official(scale=True, **kwargs):
    return randomise(Official(scale=scale, **kwargs)).eval()


def save(model, folder):
    torch.save({'model': model.state_dict()}, folder / 'file.pth')
    return folder / 'file.pth'


class Classifier(nn.Module):
    def __init__(self, arch, scale=0., classes=1000):
        super().__init__()
        self.backbone = IsotropicConvNeXt(arch, layer_scale_init_value=scale, out_norms=False)
        self.neck = PooledLayerNorm(self.backbone.channels[0])
        self.head = nn.Module()
        self.head.fc = nn.Linear(self.backbone.channels[0], classes)

    def forward(self, x):
        return self.head.fc(self.neck(self.backbone(x))[0])


@pytest.mark.parametrize('row', published_imagenet()['isotropic'], ids=lambda row: row['arch'])
def test_parameters_and_operations_are_the_published_ones(row):
    arch = row['arch'].removeprefix('isotropic_')
    recipe = published_imagenet()['recipes']['isotropic']
    with torch.device('meta'):
        model = Classifier(arch, recipe['layer_scale_init_value'][row['arch']]).eval()
        macs, _ = count_macs(model, torch.empty(1, 3, 224, 224))
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert round(millions, 6) == row['computed_params_m'] and round(millions) == row['params_m']
    assert round(macs / 1e9, 6) == row['computed_gmacs'] and round(macs / 1e9, 1) == row['flops_g']
    assert ISOTROPIC_ARCHS[row['arch']] == ((row['depth'],), (row['channels'],))
    assert model.backbone.stride == row['patch']


@pytest.mark.parametrize('scale', [False, True])
def test_official_checkpoints_load_whole_and_go_back(scale, tmp_path):
    model, own = official(scale), randomise(Classifier(TINY, float(scale), CLASSES), 5).eval()
    with torch.no_grad():
        load_checkpoint(own, save(model, tmp_path))
        assert relative_difference(own(IMAGES), model(IMAGES)) <= 1e-5
    torch.save({'state_dict': own.state_dict(), 'meta': {}}, tmp_path / 'own.pth')
    assert 'official naming' in convert_file(tmp_path / 'own.pth', str(tmp_path / 'back.safetensors'), 'official')
    back = read(tmp_path / 'back.safetensors')
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(CheckpointError, match='isotropic ConvNeXt, which timm has not'):
        convert(model.state_dict(), 'timm')


def test_maps_of_any_blocks(tmp_path):
    model = official()
    backbone = IsotropicConvNeXt(TINY, out_indices=(-1, 0, 2), layer_scale_init_value=1.)
    load_pretrained(backbone, save(model, tmp_path))
    assert backbone.out_indices == (0, 2, 3)
    outputs, features = backbone.eval()(IMAGES), model.features(IMAGES)
    for i, output in zip(backbone.out_indices, outputs):
        assert output.shape == (2, 16, 4, 5) and output.is_contiguous()
        expected = F.layer_norm(features[i].permute(0, 2, 3, 1), (16,), None, None, 1e-6).permute(0, 3, 1, 2)
        assert relative_difference(output, expected) <= 1e-5
    short = IsotropicConvNeXt(TINY, out_indices=(1,), layer_scale_init_value=1., out_norms=False)
    load_pretrained(short, save(model, tmp_path))
    assert relative_difference(short.eval()(IMAGES)[0], features[1]) <= 1e-5
    short.train()(IMAGES)[0].sum().backward()
    assert [name for name, parameter in short.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize('arguments', [dict(with_cp=True), dict(memory_format='contiguous_format')])
def test_arguments_that_change_no_value(arguments):
    plain, other = (randomise(IsotropicConvNeXt(TINY, **kwargs)) for kwargs in ({}, arguments))
    for model in (plain, other):
        model(IMAGES)[0].pow(2).sum().backward()
    for a, b in zip(plain.parameters(), other.parameters()):
        assert relative_difference(b.grad, a.grad) <= 1e-4


def test_drop_path_grows_linearly():
    rates = [block.drop_path.rate for block in IsotropicConvNeXt(TINY, drop_path_rate=.3).blocks]
    assert rates == pytest.approx([0, .1, .2, .3])


@pytest.mark.parametrize(('arguments', 'words'), [
    (dict(arch='tiny'), "arch must be one of small, base, large.*got 'tiny'"),
    (dict(arch=3), 'arch must be a name or a dict of depth and channels, got 3'),
    (dict(arch=dict(depth=3)), r"keys depth and channels, got \['depth'\]"),
    (dict(arch=dict(depth=0, channels=8)), r"arch\['depth'\].*got 0"),
    (dict(arch=TINY, out_indices=(4,)), r'out_indices\[0\] must be an integer from -4 to 3, got 4'),
    (dict(arch=TINY, out_indices=()), 'out_indices must be a non-empty sequence of distinct block numbers'),
    (dict(arch=TINY, with_cp=2), 'with_cp.*got 2'),
])
def test_bad_arguments(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        IsotropicConvNeXt(**arguments)


def test_bad_images():
    with pytest.raises(ValueError, match='at least 16 x 16 pixels'):
        IsotropicConvNeXt(TINY)(torch.rand(1, 3, 15, 20))


@pytest.mark.parametrize(('model', 'file', 'words'), [
    (lambda: ConvNeXt('atto'), official, "the checkpoint is an isotropic ConvNeXt, the config asks for a ConvNeXt of "
                                         "four stages: set type='convnext_mm.IsotropicConvNeXt'"),
    (lambda: IsotropicConvNeXt(TINY), lambda: ConvNeXt(dict(depths=(1,) * 4, channels=(8,) * 4)),
     "the checkpoint is a ConvNeXt of four stages, the config asks for an isotropic ConvNeXt: set "
     "type='convnext_mm.ConvNeXt'"),
    (lambda: IsotropicConvNeXt('small'), lambda: official(False),
     'the checkpoint is ConvNeXt-(4,) with channels (16,), the config asks for isotropic_small (18,)'),
    (lambda: IsotropicConvNeXt(TINY), official, 'with layer scale: set layer_scale_init_value=1e-6'),
    (lambda: IsotropicConvNeXt(TINY), lambda: official(channels=24), 'with channels (24,)'),
])
def test_other_checkpoints_are_refused(model, file, words, tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(words)):
        load_pretrained(model(), save(file(), tmp_path))


def test_what_a_file_is(tmp_path):
    facts = describe_file(save(official(), tmp_path))
    assert facts['format'] == 'official isotropic naming' and facts['classes'] == str(CLASSES)
    assert facts['loads into'] == ("dict(type='convnext_mm.IsotropicConvNeXt', arch={'depth': 4, 'channels': 16}, "
                                   'layer_scale_init_value=1e-6)')


def test_layers_go_by_depth():
    model = Classifier(TINY, 1.)
    groups = LayerDecayOptimWrapperConstructor(
        dict(optimizer=dict(type='AdamW', lr=1., weight_decay=.1)), dict(decay_rate=.5)).group_parameters(model)
    for group in groups:
        for name in group['param_names']:
            layer = 5 if not name.startswith('backbone.') else 0 if '.stem.' in name else int(name.split('.')[2]) + 1
            assert (group['layer_id'], group['lr']) == (layer, .5 ** (5 - layer)), name
    assert {group['layer_id'] for group in groups} == set(range(6))


def test_a_head_for_plain_transformers_trains():
    mmseg = pytest.importorskip('mmseg.registry', reason="the head is mmseg's")
    head = dict(type='SETRUPHead', in_channels=16, channels=8, num_classes=3, num_convs=1, up_scale=4, kernel_size=3,
                norm_cfg=dict(type='BN'), loss_decode=dict(type='CrossEntropyLoss'), in_index=2)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = mmseg.MODELS.build(dict(
            type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor'),
            backbone=dict(type='convnext_mm.IsotropicConvNeXt', arch=TINY, out_indices=(1, 2, 3)), decode_head=head,
            auxiliary_head=[dict(head, in_index=i) for i in range(2)], test_cfg=dict(mode='whole')))
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 3, (1, 64, 64))))
    optimizer = torch.optim.SGD(model.parameters(), lr=.1)
    before = [parameter.clone() for parameter in model.parameters()]
    losses = model(torch.rand(2, 3, 64, 64), [sample, sample], mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    optimizer.step()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.backbone.parameters()))
