"""Weights of other libraries' models give their features here, and go back unchanged.

Run as a program, it prints the table of naming x direction x size x largest difference:
python -m tests.checkpoint.test_namings [--all], the latter with L and XL, which need some memory and minutes.
"""
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmengine.registry import DefaultScope

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.checkpoint.convert import convert_file
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read, write
from convnext_mm.checkpoint.mmengine_loader import load_checkpoint
from convnext_mm.checkpoint.state_dicts import compose, convert, parse
from tests.helpers.models import randomise, relative_difference
from tests.helpers.official import CLASSES, Official

SIZES = ('tiny', 'small', 'base')
IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
TOLERANCE = 1e-5


def timm_model(arch, classes=CLASSES, **kwargs):
    timm = pytest.importorskip('timm')
    return timm.models.ConvNeXt(depths=arch.depths, dims=arch.channels, num_classes=classes, **kwargs)


def timm_features(arch, **kwargs):
    features = pytest.importorskip('timm.models._features')
    return features.FeatureListNet(timm_model(arch, 0, **kwargs), out_indices=(0, 1, 2, 3), flatten_sequential=True)


def torchvision_model(arch):
    convnext = pytest.importorskip('torchvision.models.convnext')
    return convnext.ConvNeXt([convnext.CNBlockConfig(c, following, depth) for c, following, depth
                              in zip(arch.channels, [*arch.channels[1:], None], arch.depths)], num_classes=CLASSES)


def transformers_model(arch, name, config, **kwargs):
    transformers = pytest.importorskip('transformers')
    if not hasattr(transformers, config):
        pytest.skip(f'transformers {transformers.__version__} has no {config}')
    config = getattr(transformers, config)(depths=list(arch.depths), hidden_sizes=list(arch.channels),
                                           num_labels=CLASSES, **kwargs)
    return getattr(transformers, name)(config)


def mmpretrain_model(arch, **kwargs):
    pytest.importorskip('mmpretrain.models')
    from mmpretrain.registry import MODELS
    head = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=arch.channels[-1])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(dict(type='ImageClassifier', head=head, backbone=dict(
            type='ConvNeXt', arch=dict(depths=arch.depths, channels=arch.channels), **kwargs)))


def mmdet_style_model(arch):
    """The backbone of mmdet's and mmseg's own ConvNeXt configs, in a model that also has a neck."""
    pytest.importorskip('mmpretrain.models')
    from mmpretrain.registry import MODELS
    model = nn.Module()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model.backbone = MODELS.build(dict(type='ConvNeXt', out_indices=[0, 1, 2, 3], gap_before_final_norm=False,
                                           arch=dict(depths=arch.depths, channels=arch.channels)))
    model.neck = nn.Linear(2, 2)
    return model


def layers_of(backbone):
    """Features of something with official names for its downsampling and its stages."""
    def features(model, x):
        outputs = []
        body = backbone(model)
        for downsample, stage in zip(body.downsample_layers, body.stages):
            x = stage(downsample(x))
            outputs.append(x)
        return outputs
    return features


def torchvision_features(model, x):
    outputs = []
    for i, layer in enumerate(model.features):
        x = layer(x)
        if i % 2:
            outputs.append(x)
    return outputs


def hidden_states(model, x):
    body = getattr(model, 'convnext', getattr(model, 'convnextv2', model))
    return body(x, output_hidden_states=True).hidden_states[-4:]


def save_torch(key=None):
    def save(model, folder):
        torch.save(model.state_dict() if key is None else {key: model.state_dict(), 'meta': {'epoch': 1}},
                   folder / 'file.pth')
        return folder / 'file.pth'
    return save


def save_safetensors(model, folder):
    write(model.state_dict(), folder / 'file.safetensors')
    return folder / 'file.safetensors'


def save_pretrained(model, folder):
    model.save_pretrained(folder, safe_serialization=True)
    return folder / 'model.safetensors'


def save_pretrained_bin(model, folder):
    model.save_pretrained(folder, safe_serialization=False)
    return folder / 'pytorch_model.bin'


class Library(NamedTuple):
    """A way to have a ConvNeXt: how it is built, run, and saved in its own form."""

    build: Callable
    features: Callable
    save: Callable
    #: The naming that it has.
    naming: str
    use_grn: bool = False
    #: Whether ``model(images)`` gives logits.
    classifies: bool = False
    #: Whether ``features`` are those behind the output norms.
    has_norms: bool = False

    @property
    def logits(self):
        """The output to be unchanged: logits, or else features."""
        if not self.classifies:
            return self.features
        return lambda model, x: [getattr(model(x), 'logits', None) if hasattr(model, 'config') else model(x)]


V2 = dict(use_grn=True, ls_init_value=None)
MM_V2 = dict(use_grn=True, layer_scale_init_value=0.)
own_layers, backbone_layers = layers_of(lambda model: model), layers_of(lambda model: model.backbone)
stages = ['stage1', 'stage2', 'stage3', 'stage4']
LIBRARIES = {
    'official': Library(Official, Official.features, save_torch('model'), 'official', classifies=True),
    'official V2': Library(lambda arch: Official(arch, True), Official.features, save_torch('model'), 'official',
                           use_grn=True, classifies=True),
    'mmpretrain': Library(mmpretrain_model, backbone_layers, save_torch('state_dict'), 'mmpretrain', classifies=True),
    'mmpretrain V2': Library(lambda arch: mmpretrain_model(arch, **MM_V2), backbone_layers, save_torch('state_dict'),
                             'mmpretrain', use_grn=True, classifies=True),
    'mmdet, mmseg configs': Library(mmdet_style_model, lambda model, x: model.backbone(x), save_torch('state_dict'),
                                    'mmpretrain', has_norms=True),
    'timm': Library(timm_model, lambda model, x: model.forward_intermediates(x, intermediates_only=True),
                    save_safetensors, 'timm', classifies=True),
    'timm V2': Library(lambda arch: timm_model(arch, **V2),
                       lambda model, x: model.forward_intermediates(x, intermediates_only=True),
                       save_torch(), 'timm', use_grn=True, classifies=True),
    'timm features_only': Library(timm_features, lambda model, x: model(x), save_torch(), 'timm_features'),
    'timm DINOv3': Library(lambda arch: timm_model(arch, 0),
                           lambda model, x: model.forward_intermediates(x, intermediates_only=True),
                           save_safetensors, 'timm', classifies=True),
    'torchvision': Library(torchvision_model, torchvision_features, save_torch(), 'torchvision', classifies=True),
    'transformers Model': Library(lambda arch: transformers_model(arch, 'ConvNextModel', 'ConvNextConfig'),
                                  hidden_states, save_pretrained_bin, 'transformers'),
    'transformers Classification': Library(
        lambda arch: transformers_model(arch, 'ConvNextForImageClassification', 'ConvNextConfig'),
        hidden_states, save_pretrained, 'transformers', classifies=True),
    'transformers Backbone': Library(
        lambda arch: transformers_model(arch, 'ConvNextBackbone', 'ConvNextConfig', out_features=stages),
        lambda model, x: model(x).feature_maps, save_pretrained, 'transformers', has_norms=True),
    'transformers V2 Classification': Library(
        lambda arch: transformers_model(arch, 'ConvNextV2ForImageClassification', 'ConvNextV2Config'),
        hidden_states, save_pretrained, 'transformers', use_grn=True, classifies=True),
    'transformers DINOv3': Library(
        lambda arch: transformers_model(arch, 'DINOv3ConvNextModel', 'DINOv3ConvNextConfig'),
        hidden_states, save_pretrained, 'transformers_dinov3'),
}
CASES = [(name, size) for name in LIBRARIES for size in SIZES]


def make(library, arch):
    """The library's model with every parameter random."""
    return randomise(LIBRARIES[library].build(arch), seed=3).eval()


def own_features(library, backbone, images=IMAGES):
    return backbone(images) if LIBRARIES[library].has_norms else own_layers(backbone, images)


def head_logits(classifier, features):
    """Logits of a small head, out of what ``parse`` calls the classifier."""
    x = features.mean((2, 3))
    x = F.layer_norm(x, x.shape[-1:], classifier['norm.weight'], classifier['norm.bias'], 1e-6)
    return F.linear(x, classifier['head.weight'], classifier['head.bias']) if 'head.weight' in classifier else x


@torch.no_grad()
def compare(library, size, folder):
    """Differences for one library and size: of the features, of the logits (None without a head), way back exact."""
    row, arch = LIBRARIES[library], ARCHS[size]
    model = make(library, arch)
    path = row.save(model, folder)
    backbone = ConvNeXt(size, use_grn=row.use_grn, layer_scale_init_value=0. if row.use_grn else 1.,
                        init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    backbone.init_weights()
    backbone.eval()
    theirs, ours = row.features(model, IMAGES), own_features(library, backbone)
    features = max(relative_difference(a, b) for a, b in zip(ours, theirs))
    state_dict = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parsed = parse(state_dict)
    assert parsed.naming == row.naming
    logits = None
    output = row.logits(model, IMAGES)
    if row.classifies:
        logits = relative_difference(head_logits(parsed.classifier, ours[-1]), output[0])
    back = compose(parse(compose(parsed, 'official')), row.naming)
    if parsed.others:
        back.update((name, tensor) for name, tensor in state_dict.items() if name not in back)
    for parameter in model.parameters():
        parameter.fill_(7.)
    model.load_state_dict(back, strict=True)
    exact = all(torch.equal(a, b) for a, b in zip(row.logits(model, IMAGES), output))
    return features, logits, exact


@pytest.mark.parametrize(('library', 'size'), CASES)
def test_features_logits_and_the_way_back(library, size):
    # Not pytest's folder, which it keeps: the files are large.
    with tempfile.TemporaryDirectory() as folder:
        features, logits, exact = compare(library, size, Path(folder))
    assert features <= TOLERANCE
    assert logits is None or logits <= TOLERANCE
    assert exact


@pytest.mark.parametrize('size', ['large', 'xlarge'])
@pytest.mark.parametrize('library', [name for name in LIBRARIES if not name.startswith('mm')])
def test_shapes_of_the_largest(library, size):
    row = LIBRARIES[library]
    with torch.device('meta'):
        try:
            parsed = parse(row.build(ARCHS[size]).state_dict())
        except NotImplementedError as error:
            # transformers before 4.56 takes drop path rates out of a tensor, for which there must be data.
            pytest.skip(f'not built without memory: {error}')
        own = ConvNeXt(size, use_grn=row.use_grn, layer_scale_init_value=0. if row.use_grn else 1.)
    own = {name: tensor.shape for name, tensor in own.state_dict().items() if row.has_norms or name[:4] != 'norm'}
    assert {name: tensor.shape for name, tensor in parsed.backbone.items()} == own


def own_classifier(arch, use_grn):
    mmpretrain = pytest.importorskip('mmpretrain.registry')
    c, scale = arch.channels[-1], 0. if use_grn else 1.
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return mmpretrain.MODELS.build(dict(
            type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=c),
            neck=dict(type='convnext_mm.PooledLayerNorm', in_channels=c),
            backbone=dict(type='convnext_mm.ConvNeXt', arch=arch._asdict(), out_indices=(3,), out_norms=False,
                          use_grn=use_grn, layer_scale_init_value=scale)))


@torch.no_grad()
def compare_classifiers(library, arch, folder):
    """Difference of the logits, and whether those of the library's model are the same bits after the way back."""
    row, model = LIBRARIES[library], make(library, arch)
    own = randomise(own_classifier(arch, row.use_grn), seed=4).eval()
    load_checkpoint(own, row.save(model, folder))
    output = row.logits(model, IMAGES)[0]
    difference = relative_difference(own(IMAGES), output)
    torch.save({'state_dict': own.state_dict(), 'meta': {}}, folder / 'own.pth')
    convert_file(folder / 'own.pth', str(folder / 'back.safetensors'), row.naming)
    randomise(model, seed=5)
    model.load_state_dict(read(folder / 'back.safetensors'), strict=True)
    return difference, torch.equal(row.logits(model, IMAGES)[0], output)


CLASSIFIERS = [name for name, row in LIBRARIES.items() if row.classifies and name != 'timm DINOv3']


@pytest.mark.parametrize('library', CLASSIFIERS)
def test_classifiers_load_whole_and_go_back(library, tmp_path):
    arch = ARCHS['atto']._replace(depths=(1, 2, 2, 1), channels=(8, 12, 16, 24))
    difference, exact = compare_classifiers(library, arch, tmp_path)
    assert difference <= TOLERANCE and exact


@pytest.mark.parametrize(('change', 'words'), [
    (lambda s: s.pop('norm.weight'), '1 missing: neck.norm.weight'),
    (lambda s: s.pop('head.bias'), '1 missing: head.fc.bias'),
    (lambda s: s.update({'norm3.weight': torch.ones(24)}), '1 unexpected: backbone.norm3.weight'),
    (lambda s: s.update({'more.weight': torch.ones(8)}), '1 unexpected: backbone.more.weight'),
    (lambda s: s.update({'head.weight': torch.ones(3, 24), 'head.bias': torch.ones(3)}),
     'the checkpoint has another number of classes than the config; 2 of another shape: head.fc.weight is (3, 24)'),
])
def test_classifiers_that_do_not_fit_are_refused(change, words, tmp_path):
    arch = ARCHS['atto']._replace(depths=(1, 1, 1, 1), channels=(8, 12, 16, 24))
    state_dict = make('official', arch).state_dict()
    change(state_dict)
    torch.save({'model': state_dict}, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=re.escape(words)):
        load_checkpoint(own_classifier(arch, False), tmp_path / 'file.pth')


def test_fine_tuning_starts_the_head_anew_for_other_classes(tmp_path):
    arch = ARCHS['atto']._replace(depths=(1, 1, 1, 1), channels=(8, 12, 16, 24))
    model = make('official', arch)
    model.head = nn.Linear(24, 3)
    torch.save({'model': model.state_dict()}, tmp_path / 'file.pth')
    own = own_classifier(arch, False)
    before = own.head.fc.weight.clone()
    load_checkpoint(own, tmp_path / 'file.pth', training=True)
    assert torch.equal(own.head.fc.weight, before) and torch.equal(own.neck.norm.weight, model.norm.weight)


def same_shape_pairs(state_dict):
    """Each tensor of a backbone beside the next one of its shape."""
    by_shape = {}
    for name, tensor in state_dict.items():
        by_shape.setdefault(tuple(tensor.shape), []).append(name)
    return [pair for names in by_shape.values() for pair in zip(names, names[1:])]


@torch.no_grad()
@pytest.mark.parametrize('library', LIBRARIES)
def test_a_swap_of_two_tensors_is_noticed(library):
    row, arch = LIBRARIES[library], ARCHS['atto']
    arch = arch._replace(channels=tuple(c // 4 for c in arch.channels))
    model = make(library, arch)
    state_dict = parse(model.state_dict()).backbone
    backbone = ConvNeXt(arch._asdict(), use_grn=row.use_grn, layer_scale_init_value=0. if row.use_grn else 1.).eval()
    theirs = row.features(model, IMAGES)
    pairs = same_shape_pairs(state_dict)
    assert len(pairs) > 60
    for first, second in [(None, None), *pairs]:
        swapped = dict(state_dict)
        if first:
            swapped[first], swapped[second] = swapped[second], swapped[first]
        backbone.load_state_dict(swapped)
        difference = max(relative_difference(a, b) for a, b in zip(own_features(library, backbone), theirs))
        assert (difference > TOLERANCE) == (first is not None), (first, second, difference)


@pytest.mark.parametrize('kwargs', [dict(), V2])
def test_linear_layers_as_convolutions(kwargs):
    arch = ARCHS['atto']
    model = randomise(timm_model(arch, conv_mlp=True, **kwargs)).eval()
    backbone = ConvNeXt('atto', use_grn=bool(kwargs), layer_scale_init_value=0. if kwargs else 1.).eval()
    assert model.state_dict()['stages.0.blocks.0.mlp.fc1.weight'].ndim == 4
    backbone.load_state_dict(model.state_dict())
    with torch.no_grad():
        theirs = model.forward_intermediates(IMAGES, intermediates_only=True)
        assert max(relative_difference(a, b) for a, b in zip(own_layers(backbone, IMAGES), theirs)) <= TOLERANCE


CONVERSIONS = [(library, to) for library in LIBRARIES for to in ('official', 'mmpretrain', 'timm', 'torchvision',
                                                                 'transformers', 'transformers_dinov3')
               # A pyramid's output norms, a model's neck and GRN have no place everywhere.
               if not (LIBRARIES[library].has_norms and to not in ('official', 'mmpretrain'))
               and not (LIBRARIES[library].use_grn and to in ('torchvision', 'transformers_dinov3'))
               and not (to == 'transformers_dinov3' and LIBRARIES[library].classifies and library != 'timm DINOv3')]


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
@pytest.mark.parametrize(('library', 'to'), CONVERSIONS)
def test_round_trips_are_exact(library, to, ending, tmp_path):
    row, arch = LIBRARIES[library], ARCHS['atto']._replace(channels=(4, 8, 12, 16))
    model = make(library, arch)
    before = dict(model.state_dict())
    path = tmp_path / f'file{ending}'
    write(convert(before, to), path)
    after = convert(read(path), row.naming)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
        assert after[name].shape == tensor.shape, name


if __name__ == '__main__':
    from mmengine.logging import MMLogger
    MMLogger.get_instance('parity', log_level='ERROR')
    print('| naming | size | features, into the backbone | logits | written back, output bit for bit |')
    print('|---|---|---|---|---|')
    for library in LIBRARIES:
        for size in (*SIZES, *(['large', 'xlarge'] if '--all' in sys.argv else [])):
            with tempfile.TemporaryDirectory() as folder:
                features, logits, exact = compare(library, size, Path(folder))
            print(f'| {library} | {size} | {features:.1e} | {"-" if logits is None else f"{logits:.1e}"} | '
                  f'{"equal" if exact else "DIFFERENT"} |', flush=True)
