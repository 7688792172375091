"""Loading: what fits is loaded from any naming, what may differ is named, anything else raises with its cause."""
import copy
import logging
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn as nn
from mmengine.model import BaseTTAModel, PretrainedInit
from mmengine.runner import load_checkpoint as mmengine_load_checkpoint
from mmengine.runner.checkpoint import load_state_dict as mmengine_load_state_dict

from convnext_mm import ARCHS, ConvNeXt
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.fit import adapt_stem, load_pretrained
from convnext_mm.checkpoint.mmengine_loader import load_checkpoint, load_from_convnext_mm
from convnext_mm.checkpoint.state_dicts import convert
from convnext_mm.checkpoint.whole_model import CLASS_LAYERS, fit_model
from convnext_mm.published.archs import arch_name
from convnext_mm.utils.errors import ArgumentTypeError
from tests.helpers.checkpoints import ARCH, SMALL, Detector, backbone, classifier, detector, pyramid, save
from tests.helpers.models import randomise
from tests.helpers.paths import ROOT


@pytest.fixture
def log(caplog):
    """What mmengine logs, which does not reach pytest by itself."""
    from mmengine.logging import MMLogger
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield lambda: [record.getMessage() for record in caplog.records]
    logger.removeHandler(caplog.handler)


def one_line(lines, *words):
    found = [line for line in lines if line.startswith('Loaded')]
    assert len(found) == 1
    for word in words:
        assert word in found[0]


@pytest.mark.parametrize('key', [None, 'model', 'state_dict', 'model_ema', 'module'])
@pytest.mark.parametrize('wrapper', ['', 'module.', 'module._orig_mod.', 'backbone.', 'encoder.trunk.'])
def test_init_cfg_takes_any_wrapper(key, wrapper, tmp_path, log):
    state_dict = classifier()
    path = save({wrapper + name: tensor for name, tensor in state_dict.items()}, tmp_path / 'file.pth', key)
    model = backbone(init_cfg=dict(type='Pretrained', checkpoint=path))
    model.init_weights()
    for name, tensor in model.state_dict().items():
        if name in state_dict:
            assert torch.equal(tensor, state_dict[name])
        else:
            assert torch.equal(tensor, torch.full_like(tensor, float(name.endswith('weight')))), 'identity norms'
    one_line(log(), path, 'official naming', f'{len(state_dict) - 4} of {len(model.state_dict())} tensors',
             'norm0, norm1, norm2, norm3 start at identity', '4 tensors left out, of head, norm')


@pytest.mark.parametrize('keys', [('model_ema', 'model'), ('state_dict_ema', 'state_dict'), ('teacher', 'model_ema')])
def test_trained_weights_come_before_their_average(keys, tmp_path):
    average, trained = pyramid(1), pyramid(2)
    torch.save(dict(zip(keys, (average, trained))), tmp_path / 'file.pth')
    model = backbone()
    load_pretrained(model, tmp_path / 'file.pth')
    assert_equal(model, trained)


def test_a_state_dict_may_lie_deeper(tmp_path):
    state_dict = pyramid(1)
    torch.save({'model': {'state_dict': state_dict, 'config': {'a': 1}}}, tmp_path / 'file.pth')
    model = backbone()
    load_pretrained(model, tmp_path / 'file.pth')
    assert_equal(model, state_dict)


@pytest.mark.parametrize('init_cfg', [
    lambda path: dict(type='Pretrained', checkpoint=path),
    lambda path: dict(type=PretrainedInit, checkpoint=path),
    lambda path: [dict(type='Pretrained', checkpoint=path), dict(type='Constant', layer='Conv2d', val=3., bias=3.)],
    lambda path: [dict(type='Constant', layer='Conv2d', val=3., bias=3.), dict(type=PretrainedInit, checkpoint=path)],
])
def test_init_cfg_forms(init_cfg, tmp_path):
    state_dict = pyramid()
    model = backbone(init_cfg=init_cfg(save(state_dict, tmp_path / 'file.pth')))
    before = copy.deepcopy(model.init_cfg)
    model.init_weights()
    assert model.init_cfg == before
    assert all(torch.equal(tensor, state_dict[name]) for name, tensor in model.state_dict().items())
    # mmengine initialises once: a second call must not undo training.
    model.norm0.weight.data.fill_(9.)
    model.init_weights()
    assert model.norm0.weight[0] == 9.


@pytest.mark.parametrize(('init_cfg', 'words'), [
    ('convnext_tiny_in1k',
     "init_cfg must be None, a dict .*checkpoint='convnext_tiny_in1k'.*, got 'convnext_tiny_in1k'"),
    (dict(checkpoint='a.pth'), "a dict with a type, .*, got {'checkpoint': 'a.pth'}"),
    ([dict(type='Pretrained', checkpoint='a.pth'), 'b.pth'], 'a list of such dicts, got .*b.pth'),
    (dict(type='Pretrained'), 'of type Pretrained must have a checkpoint, a path, an address or a short name'),
    (dict(type=PretrainedInit, checkpoint=None), "must have a checkpoint, .* got .*'checkpoint': None"),
    (dict(type='Pretrained', checkpoint='a.pth', prefix=3), r"init_cfg\['prefix'\] must be text, .* got 3"),
])
def test_wrong_init_cfgs(init_cfg, words):
    with pytest.raises(ArgumentTypeError, match=words):
        backbone(init_cfg=init_cfg)


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_prefix_is_honoured(prefix, tmp_path):
    state_dict = {f'backbone.{name}': tensor for name, tensor in pyramid(1).items()}
    state_dict.update((f'teacher.{name}', tensor) for name, tensor in pyramid(2).items())
    path = save(state_dict, tmp_path / 'file.pth')
    model = backbone(init_cfg=dict(type='Pretrained', checkpoint=path, prefix=prefix))
    model.init_weights()
    assert torch.equal(model.norm0.weight, pyramid(1)['norm0.weight'])
    wrapped = save({f'module.{name}': tensor for name, tensor in state_dict.items()}, tmp_path / 'wrapped.pth')
    load_pretrained(model, wrapped, f'module.{prefix}')
    assert torch.equal(model.norm0.weight, pyramid(1)['norm0.weight'])
    with pytest.raises(CheckpointError, match=r"several ConvNeXts, under 'backbone.', 'teacher.': name one by prefix="):
        load_pretrained(model, path)
    with pytest.raises(CheckpointError, match="nothing under prefix 'student.'; its names start with backbone, teach"):
        load_pretrained(model, path, 'student')


def test_norm_of_a_classifier_is_no_output_norm(tmp_path):
    path = save(convert(classifier(), 'mmpretrain'), tmp_path / 'file.pth', 'state_dict')
    for prefix in (None, 'backbone.'):
        model = backbone()
        load_pretrained(model, path, prefix)
        assert torch.equal(model.norm3.weight, torch.ones(16)), 'mmpretrain calls the norm after pooling norm3'


def test_norm3_of_a_whole_model_is_an_output_norm():
    source, model = detector(1, out_indices=(3,)), detector(2, out_indices=(3,))
    state_dict = convert(source.state_dict(), 'mmpretrain')
    assert 'backbone.norm3.weight' in state_dict
    model.load_state_dict(fit_model(model, state_dict))
    assert_equal(model, source.state_dict())


@pytest.mark.parametrize('out_indices', [(0,), (3,), (1, 2), (0, 3)])
def test_what_is_not_built_may_be_left_over(out_indices, tmp_path):
    state_dict = pyramid()
    model = backbone(out_indices=out_indices)
    load_pretrained(model, save(state_dict, tmp_path / 'file.pth'))
    assert all(torch.equal(tensor, state_dict[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(('name', 'may'), [
    ('head.weight', True), ('head.pre_logits.fc.weight', True), ('norm.weight', True), ('norm_pre.weight', True),
    ('norms.3.weight', True), ('mask_token', True), ('proj.weight', True), ('decoder.0.gamma', True),
    ('pred.weight', True), ('header.weight', False), ('norm4.weight', False), ('normal.weight', False),
    ('decode_head.conv_seg.weight', False), ('stages.4.0.gamma', False), ('downsample_layers.4.0.weight', False),
])
def test_what_may_be_left_over(name, may, tmp_path, log):
    path = save({**pyramid(), name: torch.ones(1)}, tmp_path / 'file.pth')
    if may:
        load_pretrained(backbone(), path)
        one_line(log(), f'1 tensors left out, of {name.split(".")[0]}')
    else:
        with pytest.raises(CheckpointError, match=f'1 unexpected: {name}'):
            load_pretrained(backbone(), path)


def test_what_stands_beside_a_backbone_is_named(tmp_path, log):
    state_dict = detector(1).state_dict()
    model = backbone()
    load_pretrained(model, save(state_dict, tmp_path / 'file.pth'))
    assert_equal(model, {name[9:]: tensor for name, tensor in state_dict.items() if name.startswith('backbone.')})
    one_line(log(), '11 tensors left out, of neck, roi_head')


def test_what_is_sharded_is_left_to_its_wrapper(tmp_path):
    model = detector(1)
    # FSDP's name for all parameters of a module in one.
    model.backbone.register_parameter('_flat_param', nn.Parameter(torch.ones(1)))
    state_dict = {'backbone._flat_param': torch.zeros(1)}
    assert fit_model(model, state_dict) is state_dict
    model.load_state_dict(state_dict, strict=False)
    assert model.backbone._flat_param == 0
    source = detector(2)
    LOADERS['mmengine'](model, save(source.state_dict(), tmp_path / 'file.pth'))
    assert torch.equal(model.neck.weight, source.neck.weight)


def without(*names):
    return lambda state_dict: [state_dict.pop(name) for name in names]


def renamed(old, new):
    return lambda state_dict: state_dict.update({new: state_dict.pop(old)})


S, B = ({'arch': size} for size in ('small', 'base'))
#: A change to a file of ``pyramid``, what the backbone is built with, what the error says.
MISFITS = {
    'missing': (without('stages.2.0.pwconv1.weight'), {}, ['1 missing: stages.2.0.pwconv1.weight']),
    'unexpected': (lambda s: s.update({'stages.0.0.extra': torch.ones(1)}), {}, ['1 unexpected: stages.0.0.extra']),
    'no tensor': (lambda s: s.update({'stages.0.0.gamma': 1.}), {},
                  ['1 missing: stages.0.0.gamma; 1 unexpected: stages.0.0.gamma']),
    'misspelt': (renamed('norm1.bias', 'norn1.bias'), {}, ['1 unexpected: norn1.bias']),
    'shape': (lambda s: s.update({'norm1.bias': torch.ones(7)}), {},
              ['1 of another shape: norm1.bias is (7,), wanted (8,)']),
    'a block more': (lambda s: s.update({name.replace('.0.0.', '.0.1.'): s[name] for name in list(s)
                                         if name.startswith('stages.0.0.')}), {},
                     ['the checkpoint is ConvNeXt-(2, 1, 2, 1) with channels (4, 8, 12, 16)', 'asks for (1, 1, 2, 1)']),
    'GRN wanted': (lambda s: None, dict(use_grn=True, layer_scale_init_value=0),
                   ['the checkpoint is a ConvNeXt V1 with layer scale: set use_grn=False and '
                    'layer_scale_init_value=1e-6', 'stages.0.0.grn.gamma']),
    'layer scale unwanted': (lambda s: None, dict(layer_scale_init_value=0),
                             ['set layer_scale_init_value=1e-6', '5 unexpected: stages.0.0.gamma']),
    'stem of 4': (lambda s: s.update({'downsample_layers.0.0.weight': torch.ones(4, 4, 4, 4)}), {},
                  ['the checkpoint takes images of 4 channels, the config asks for in_channels=3',
                  'downsample_layers.0.0.weight is (4, 4, 4, 4), wanted (4, 3, 4, 4)']),
    'no ConvNeXt': (lambda s: (s.clear(), s.update(nn.Linear(2, 2).state_dict())), {},
                    ['holds no ConvNeXt in a known naming', 'its first names are weight, bias']),
    'isotropic': (lambda s: (s.clear(), s.update({'blocks.0.dwconv.weight': torch.ones(1)})), {}, ['isotropic']),
    'sparse': (lambda s: (s.clear(), s.update({'encoder.stages.0.0.dwconv.kernel': torch.ones(1)})), {},
               ['sparse pre-training']),
    'empty': (lambda s: s.clear(), {}, ['holds no state dict']),
    'V2 file': (lambda s: (s.clear(), s.update(classifier(True))), {},
                ['the checkpoint is a ConvNeXt V2 without layer scale: set use_grn=True and layer_scale_init_value=0']),
}


@pytest.mark.parametrize('case', MISFITS)
def test_misfits_raise_with_their_cause(case, tmp_path):
    change, kwargs, words = MISFITS[case]
    state_dict = pyramid()
    change(state_dict)
    path = save(state_dict, tmp_path / 'file.pth')
    model = randomise(backbone(**kwargs), 5)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError) as error:
        load_pretrained(model, path)
    assert str(error.value).startswith(f'{path}: ')
    assert '\n' not in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()), 'half loaded'


def test_cause_names_the_sizes(tmp_path):
    with torch.device('meta'):
        file = ConvNeXt('small').state_dict()
        model = ConvNeXt('tiny')
    with pytest.raises(CheckpointError, match=r'the checkpoint is ConvNeXt-S \(3, 3, 27, 3\), the config asks for tiny '
                                              r'\(3, 3, 9, 3\); 162 unexpected: stages.2.9'):
        model.load_state_dict(file)


@pytest.mark.parametrize('in_channels', [1, 2, 4, 6, 7])
def test_stem_is_adapted(in_channels, tmp_path, log):
    state_dict = pyramid()
    model = backbone(in_channels=in_channels)
    load_pretrained(model, save(state_dict, tmp_path / 'file.pth'))
    old, new = state_dict['downsample_layers.0.0.weight'], model.downsample_layers[0][0].weight
    assert new.shape == (4, in_channels, 4, 4)
    for channel in range(in_channels):
        expected = old.mean(1) if in_channels < 3 else old[:, channel % 3] * 3 / in_channels
        torch.testing.assert_close(new[:, channel], expected)
    if in_channels % 3 == 0:
        torch.testing.assert_close(new.sum(1), old.sum(1))
    one_line(log(), f'stem adapted to in_channels={in_channels}')


def test_adapted_stem_is_timms():
    manipulate = pytest.importorskip('timm.models._manipulate')
    weight = torch.randn(4, 3, 4, 4)
    for in_channels in (4, 6, 7):
        assert torch.equal(adapt_stem(weight, in_channels), manipulate.adapt_input_conv(in_channels, weight.clone()))
    torch.testing.assert_close(adapt_stem(weight, 1) * 3, manipulate.adapt_input_conv(1, weight.clone()))


def assert_equal(model, state_dict):
    assert model.state_dict().keys() == state_dict.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state_dict[name]), name


LOADERS = {
    'torch': lambda model, path: model.load_state_dict(torch.load(path)['state_dict']),
    'mmengine': lambda model, path: mmengine_load_checkpoint(model, path, map_location='cpu'),
    'ours': load_checkpoint,
}


@pytest.mark.parametrize('loader', LOADERS)
@pytest.mark.parametrize('naming', ['official', 'mmpretrain'])
def test_whole_models(naming, loader, tmp_path, log):
    source, model = detector(1), detector(2)
    path = save(convert(source.state_dict(), naming), tmp_path / 'file.pth', 'state_dict')
    LOADERS[loader](model, path)
    assert_equal(model, source.state_dict())
    one_line(log(), f'{naming} naming', *([] if loader == 'torch' else [path]))


@pytest.mark.parametrize('wrapper', ['module.', '_orig_mod.', 'module._orig_mod.'])
def test_model_wrappers(wrapper, tmp_path):
    source = detector(1)
    path = save({wrapper + name: tensor for name, tensor in source.state_dict().items()}, tmp_path / 'file.pth')
    for loader in ('mmengine', 'ours'):
        model = detector(2)
        LOADERS[loader](model, path)
        assert_equal(model, source.state_dict())
    from mmengine.model import ExponentialMovingAverage
    averaged = ExponentialMovingAverage(detector(2))
    averaged.load_state_dict(ExponentialMovingAverage(source).state_dict())
    assert_equal(averaged.module, source.state_dict())
    for loader in ('mmengine', 'ours'):
        augmented = Augmented(detector(2))
        LOADERS[loader](augmented, path)
        assert_equal(augmented.module, source.state_dict())


class Augmented(BaseTTAModel):
    """Test-time augmentation: a wrapper whose checkpoints are those of its module."""

    def merge_preds(self, data_samples_list):
        pass


@pytest.mark.parametrize('loader', ['mmengine', 'ours'])
def test_a_model_of_two_backbones_is_loaded_once(loader, tmp_path, log):
    def build(seed):
        model = nn.Module()
        model.query, model.key = randomise(backbone(), seed), randomise(backbone(), seed + 1)
        return model

    source, model = build(1), build(5)
    LOADERS[loader](model, save(source.state_dict(), tmp_path / 'file.pth'))
    assert_equal(model, source.state_dict())
    assert len([line for line in log() if line.startswith('Loaded')]) == 1


def test_a_backbone_within_a_backbone(tmp_path):
    def build(seed):
        model = nn.Module()
        model.backbone = nn.Sequential(randomise(backbone(), seed), nn.Conv2d(1, 1, 1))
        return model

    source, model = build(1), build(5)
    LOADERS['mmengine'](model, save(source.state_dict(), tmp_path / 'file.pth'))
    assert_equal(model, source.state_dict())


@pytest.mark.parametrize('loader', LOADERS)
@pytest.mark.parametrize(('change', 'words'), [
    (without('backbone.stages.2.0.gamma'), '1 missing: backbone.stages.2.0.gamma'),
    (without('backbone.norm1.weight'), '1 missing: backbone.norm1.weight'),
    (lambda s: s.update({'backbone.x.weight': torch.ones(1)}), '1 unexpected: backbone.x.weight'),
    (lambda s: s.update({'backbone.norm0.weight': torch.ones(9)}), r'backbone.norm0.weight is \(9,\), wanted \(4,\)'),
    (lambda s: [s.pop(name) for name in list(s) if name.startswith('backbone.')],
     r'holds no(thing| ConvNeXt)'),
    (lambda s: (s.clear(), s.update(classifier())), r'holds nothing named backbone\.\*.* init_cfg'),
])
def test_backbones_of_whole_models_are_strict(change, words, loader, tmp_path):
    state_dict = detector(1).state_dict()
    change(state_dict)
    path = save(state_dict, tmp_path / 'file.pth', 'state_dict')
    with pytest.raises(CheckpointError, match=words):
        LOADERS[loader](detector(2), path)


@pytest.mark.parametrize('loader', ['mmengine', 'ours'])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(('change', 'words'), [
    (without('neck.weight'), '1 missing: neck.weight'),
    (lambda s: s.update({'neck.x': torch.ones(1)}), '1 unexpected: neck.x'),
    (lambda s: s.update({'neck.bias': torch.ones(3)}), r'neck.bias is \(3,\), wanted \(4,\)'),
    (lambda s: s.update({'roi_head.bbox_head.fc_cls.weight': torch.ones(6, 5)}), r'fc_cls.weight is \(6, 5\)'),
    (lambda s: [s.pop(name) for name in list(s) if name.startswith('roi_head.')],
     'the checkpoint holds a backbone beside neck, the config builds a backbone beside neck, roi_head; 8 missing'),
])
def test_whole_models_are_strict(change, words, training, loader, tmp_path):
    state_dict = detector(1).state_dict()
    change(state_dict)
    path = save(state_dict, tmp_path / 'file.pth', 'state_dict')
    model = detector(2)
    if training:
        model.init_weights()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError, match=f'{path}: .*{words}'):
        load_checkpoint(model, path, training) if loader == 'ours' else LOADERS[loader](model, path)
    assert_equal(model, before)


def test_a_copy_of_a_model_verifies_too(tmp_path):
    state_dict = detector(1).state_dict()
    del state_dict['neck.bias']
    path = save(state_dict, tmp_path / 'file.pth')
    for model in (copy.deepcopy(detector(2)), pickle.loads(pickle.dumps(detector(2)))):
        with pytest.raises(CheckpointError, match='1 missing: neck.bias'):
            LOADERS['mmengine'](model, path)


def test_one_reading_for_several_models(tmp_path, log):
    source = detector(1)
    content = load_from_convnext_mm(save(convert(source.state_dict(), 'mmpretrain'), tmp_path / 'file.pth'))
    for _ in range(2):
        model = detector(2)
        mmengine_load_state_dict(model, content['state_dict'])
        assert_equal(model, source.state_dict())
    assert len([line for line in log() if line.startswith('Loaded')]) == 2
    with pytest.raises(CheckpointError, match='asks for'):
        mmengine_load_state_dict(Detector(arch=dict(SMALL, depths=(1, 1, 1, 1))), content['state_dict'])


def test_what_is_no_file_is_as_strict_as_torch_is_told():
    state_dict = detector(1).state_dict()
    del state_dict['neck.bias']
    model = detector(2)
    with pytest.raises(RuntimeError, match='Missing key'):
        model.load_state_dict(state_dict)
    assert model.load_state_dict(state_dict, strict=False).missing_keys == ['neck.bias']


def test_buffers_that_count_may_be_missing():
    state_dict = detector(1).state_dict()
    del state_dict['roi_head.bbox_head.shared.num_batches_tracked']
    model = detector(2)
    model.load_state_dict(fit_model(model, state_dict), strict=False)
    assert torch.equal(model.neck.weight, state_dict['neck.weight'])


@pytest.mark.parametrize('loader', ['mmengine', 'ours'])
def test_other_numbers_of_classes(loader, tmp_path, log):
    source, model = detector(1, classes=5), detector(2, classes=3)
    path = save(source.state_dict(), tmp_path / 'file.pth', 'state_dict')
    with pytest.raises(CheckpointError, match=f'{path}: the checkpoint has another number of classes than the config; '
                                              '4 of another shape: roi_head.bbox_head.fc_cls.weight'):
        LOADERS[loader](model, path)
    # mmengine's training initialises a model before it loads, testing and inference do not.
    model.init_weights()
    before = copy.deepcopy(model.state_dict())
    load_checkpoint(model, path, training=True) if loader == 'ours' else LOADERS[loader](model, path)
    classes = [f'roi_head.bbox_head.{layer}.{leaf}' for layer in ('fc_cls', 'fc_reg') for leaf in ('weight', 'bias')]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, (before if name in classes else source.state_dict())[name]), name
    warning, = [line for line in log() if line.startswith('Of another number of classes')]
    assert all(name in warning for name in classes)


def test_strict_false_does_not_load_half_a_backbone():
    state_dict = pyramid()
    del state_dict['stages.0.0.gamma']
    for partial in (state_dict, {}):
        with pytest.raises(CheckpointError):
            backbone().load_state_dict(partial, strict=False)


def test_the_stem_of_a_whole_model_is_adapted_in_training_alone(log):
    state_dict = detector(1).state_dict()
    model = detector(2, in_channels=6)
    for load in (model.load_state_dict, lambda s: fit_model(model, s)):
        with pytest.raises(CheckpointError, match='takes images of 3 channels, the config asks for in_channels=6'):
            load(state_dict)
    model.load_state_dict(fit_model(model, state_dict, training=True))
    assert torch.equal(model.neck.weight, state_dict['neck.weight'])
    one_line(log(), 'stem adapted to in_channels=6')


def test_several_backbones():
    source, model = nn.Module(), nn.Module()
    for seed, both in ((1, source), (5, model)):
        both.student, both.teacher = detector(seed), detector(seed + 1)
    fitted = fit_model(model, {name.replace('.dwconv.', '.depthwise_conv.').replace('.pwconv', '.pointwise_conv')
                               if 'teacher' in name else name: tensor for name, tensor in source.state_dict().items()})
    model.load_state_dict(fitted)
    assert_equal(model, source.state_dict())


def test_other_models_are_left_alone(tmp_path):
    model = nn.Linear(2, 2)
    state_dict = {'weight': torch.ones(2, 2)}
    assert fit_model(model, state_dict) is state_dict
    mmengine_load_state_dict(model, state_dict)
    content = {'anything': torch.ones(3), 'else': [1, 2]}
    assert str(load_from_convnext_mm(save(content, tmp_path / 'file.pth'))) == str(content)


@pytest.mark.parametrize('action', [
    f'convnext_mm.ConvNeXt({SMALL!r})',
    # As an inferencer does, which reads its file before it builds anything.
    f'mmengine.Config.fromfile({str(ROOT / "configs" / "_base_" / "default_runtime.py")!r})'])
def test_mmengine_reads_through_us_once_a_backbone_is_built_or_a_config_is_read(action, tmp_path):
    path = save({'model': classifier()}, tmp_path / 'file.pth')
    program = f"""
import mmengine
import convnext_mm, convnext_mm.checkpoint.fit, convnext_mm.registry
from mmengine.runner import CheckpointLoader
before = dict(CheckpointLoader._schemes)
assert not any("convnext_mm" in loader.__module__ for loader in before.values())
{action}
after = CheckpointLoader._schemes
assert {{k for k in after if after[k] is not before[k]}} == {{"", "http://", "https://"}}
content = CheckpointLoader.load_checkpoint({path!r}, map_location="cpu")
assert content.keys() == {{"state_dict", "meta"}}, list(content)
"""
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_map_location(tmp_path):
    path = save({'state_dict': classifier(), 'optimizer': {'state': [torch.ones(2)]}}, tmp_path / 'file.pth')
    for device in ('cpu', 'meta'):
        content = load_from_convnext_mm(path, map_location=device)
        assert {tensor.device.type for tensor in (*content['state_dict'].values(), *content['optimizer']['state'])} == \
            {device}


def test_what_stands_beside_the_state_dict_outlives_the_file(tmp_path):
    path = save({'state_dict': classifier(), 'optimizer': {'state': [torch.ones(1 << 16)]}}, tmp_path / 'file.pth')
    content = load_from_convnext_mm(path)
    # Written over in place, as a training run may do with the file it resumed from.
    with open(path, 'r+b') as file:
        file.write(bytes((tmp_path / 'file.pth').stat().st_size))
    assert content['optimizer']['state'][0].sum() == 1 << 16


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('in_channels', [3, 1, 4])
def test_files_of_another_precision(dtype, in_channels, tmp_path):
    state_dict = {name: tensor.to(dtype) for name, tensor in pyramid().items()}
    model = backbone(in_channels=in_channels)
    load_pretrained(model, save(state_dict, tmp_path / 'file.pth'))
    stem = state_dict['downsample_layers.0.0.weight'].double()
    state_dict['downsample_layers.0.0.weight'] = stem if in_channels == 3 else adapt_stem(stem, in_channels)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state_dict[name].float(), rtol=1e-6, atol=1e-8)


def test_norms_that_a_file_lacks_are_the_identity_whatever_was_there(tmp_path):
    model = randomise(backbone(), 5)
    load_pretrained(model, save(classifier(), tmp_path / 'file.pth'))
    assert torch.equal(model.norm2.weight, torch.ones(12))
    assert torch.equal(model.norm2.bias, torch.zeros(12))


@pytest.mark.parametrize(('name', 'depends'), [
    ('roi_head.bbox_head.0.fc_cls.weight', True), ('roi_head.bbox_head.fc_reg.bias', True),
    ('roi_head.mask_head.2.conv_logits.weight', True), ('decode_head.conv_seg.bias', True),
    ('bbox_head.retina_cls.weight', True), ('bbox_head.rtm_cls.1.bias', True), ('bbox_head.cls_branches.0.bias', True),
    ('bbox_head.multi_level_conv_cls.2.weight', True), ('panoptic_head.cls_embed.weight', True),
    ('dn_query_generator.label_embedding.weight', True),
    ('rpn_head.rpn_cls.weight', False), ('rpn_head.rpn_reg.weight', False), ('neck.lateral_convs.0.conv.weight', False),
    ('roi_head.bbox_head.shared_fcs.0.weight', False), ('bbox_head.retina_reg.weight', False),
])
def test_layers_that_depend_on_the_classes(name, depends):
    assert bool(CLASS_LAYERS.search(name)) == depends


def test_published_sizes_are_known_by_name():
    for name, arch in ARCHS.items():
        assert arch_name(arch) == name
    assert arch_name(ARCH) is None
