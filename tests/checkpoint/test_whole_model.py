"""Published detectors and segmentors load whole: into the configs, by the toolboxes' own functions."""
import copy
from importlib import import_module

import pytest
import torch

from convnext_mm import ARCHS
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import write
from convnext_mm.checkpoint.mmengine_loader import load_checkpoint
from convnext_mm.checkpoint.state_dicts import BACKBONE, convert, parse
from convnext_mm.checkpoint.whole_model import fit_model
from tests.helpers.models import randomise, relative_difference
from tests.helpers.official import PAPERS_ROWS, official_file
from tests.helpers.paths import ROOT

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')
pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')


def load_config(config):
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    cfg = Config.fromfile(ROOT / 'configs' / config)
    init_default_scope(cfg.default_scope)
    return cfg


def build(config, change=None, device='cpu'):
    from mmengine.registry import MODELS
    cfg = load_config(config)
    if change:
        change(cfg.model)
    # What mmengine would import when it is asked must not be imported on another device.
    for scope in ('mmpretrain', cfg.default_scope):
        import_module(f'{scope}.models')
    with torch.device(device):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('naming', ['official', 'mmpretrain'])
@pytest.mark.parametrize('config', PAPERS_ROWS)
def test_official_checkpoints_fit_their_configs(config, naming):
    model = build(config, device='meta')
    state_dict = official_file(PAPERS_ROWS[config])
    fitted = fit_model(model, convert(state_dict, naming))
    assert fitted.keys() == model.state_dict().keys() == state_dict.keys()
    model.load_state_dict(fitted, strict=True)
    for name in ('neck.fpn_convs.0.conv.bias', 'decode_head.fpn_convs.0.bn.bias'):
        if name in state_dict:
            lacking = {key: tensor for key, tensor in state_dict.items() if key != name}
            with pytest.raises(CheckpointError, match=f'1 missing: {name}'):
                fit_model(model, lacking)


def test_sizes_of_other_configs_do_not_fit():
    model = build('cascade/convnext_s_3x.py', device='meta')
    with pytest.raises(CheckpointError, match=r'checkpoint is ConvNeXt-T \(3, 3, 9, 3\), the config asks for small'):
        fit_model(model, official_file(PAPERS_ROWS['cascade/convnext_t_3x.py']))
    words = ('the checkpoint holds a Mask R-CNN, the config builds a Cascade Mask R-CNN; '
             '.*missing: roi_head.bbox_head.0.fc_cls.weight')
    cascade = official_file(PAPERS_ROWS['cascade/convnext_s_3x.py'])
    with pytest.raises(CheckpointError, match=words):
        fit_model(model, {**official_file(PAPERS_ROWS['mask_rcnn/convnext_t_3x.py']),
                          **{name: tensor for name, tensor in cascade.items() if name.startswith(BACKBONE)}})


def small(model):
    """A backbone of four blocks, and narrow heads."""
    model.backbone.update(arch=dict(depths=(1, 1, 1, 1), channels=(8, 16, 24, 32)), init_cfg=None)


def small_segmentor(model):
    small(model)
    channels = (8, 16, 24, 32)
    model.decode_head.update(in_channels=channels, channels=16, num_classes=6, norm_cfg=dict(type='BN'))
    model.auxiliary_head.update(in_channels=channels[2], channels=12, num_classes=6, norm_cfg=dict(type='BN'))


def small_detector(model):
    small(model)
    model.neck.in_channels = [8, 16, 24, 32]


def randomised(model, seed=0):
    """Parameters and the statistics of norms random."""
    randomise(model, seed)
    for name, buffer in model.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            buffer.uniform_(.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return model.eval()


def same(model, state_dict):
    return all(torch.equal(tensor, state_dict[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(('naming', 'meta'), [
    ('official', {'CLASSES': ('a', 'b'), 'PALETTE': [(0, 0, 0), (1, 1, 1)]}), ('official', None), ('mmpretrain', None)])
@pytest.mark.parametrize(('config', 'change'), [('mask_rcnn/convnext_t_3x.py', small_detector),
                                                ('upernet/convnext_t_512_160k.py', small_segmentor)])
def test_init_functions_of_the_toolboxes(config, change, naming, meta, tmp_path):
    cfg = load_config(config)
    change(cfg.model)
    source = randomised(build(config, change))
    path = tmp_path / 'file.pth'
    state_dict = convert(source.state_dict(), naming)
    torch.save({'state_dict': state_dict, 'meta': meta} if meta else state_dict, path)
    if 'mask_rcnn' in config:
        from mmdet.apis import init_detector as init
    else:
        from mmseg.apis import init_model as init
    model = init(cfg, str(path), device='cpu')
    assert same(model, source.state_dict())
    # Complete or not at all, heads included.
    classes = next(name for name in state_dict if name.endswith(('.fc_cls.weight', 'decode_head.conv_seg.weight')))
    for change, words in ((lambda: state_dict.update({classes: state_dict[classes][1:]}), 'another number of classes'),
                          (lambda: state_dict.pop(classes), f'1 missing: {classes}')):
        change()
        torch.save({'state_dict': state_dict, 'meta': meta} if meta else state_dict, path)
        with pytest.raises(CheckpointError, match=words):
            init(cfg, str(path), device='cpu')


@pytest.mark.parametrize(('config', 'change'), [('mask_rcnn/convnext_t_3x.py', small_detector),
                                                ('upernet/convnext_t_512_160k.py', small_segmentor)])
def test_inferencers_of_the_toolboxes(config, change, tmp_path):
    source = randomised(build(config, change))
    path = tmp_path / 'file.pth'
    torch.save({'state_dict': convert(source.state_dict(), 'mmpretrain'),
                'meta': {'dataset_meta': {'classes': ('a', 'b'), 'palette': [(0, 0, 0), (1, 1, 1)]}}}, path)
    cfg = load_config(config)
    change(cfg.model)
    cfg.dump(tmp_path / 'config.py')
    if 'mask_rcnn' in config:
        from mmdet.apis import DetInferencer as Inferencer
    else:
        from mmseg.apis import MMSegInferencer as Inferencer
    inferencer = Inferencer(str(tmp_path / 'config.py'), str(path), device='cpu')
    assert same(inferencer.model, source.state_dict())


def transformers_upernet(depths, channels, width, auxiliary, classes):
    transformers = pytest.importorskip('transformers')
    backbone = transformers.ConvNextConfig(depths=list(depths), hidden_sizes=list(channels),
                                           out_features=['stage1', 'stage2', 'stage3', 'stage4'])
    return transformers.UperNetForSemanticSegmentation(transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=width, auxiliary_channels=auxiliary, num_labels=classes,
        auxiliary_in_channels=channels[2]))


def mmseg_logits(model, images):
    features = model.backbone(images)
    return [torch.nn.functional.interpolate(head(features), size=images.shape[2:], mode='bilinear')
            for head in (model.decode_head, model.auxiliary_head)]


@torch.no_grad()
@pytest.mark.parametrize(('arch', 'width', 'auxiliary', 'classes', 'change'), [
    (((1, 1, 1, 1), (8, 16, 24, 32)), 16, 12, 6, small_segmentor),
    (ARCHS['tiny'], 512, 256, 150, None),
])
@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_upernet_of_transformers(arch, width, auxiliary, classes, change, ending, tmp_path):
    from mmengine.model import revert_sync_batchnorm
    from mmengine.runner import load_checkpoint as mmengine_load_checkpoint
    theirs = randomised(transformers_upernet(*arch, width, auxiliary, classes))
    model = revert_sync_batchnorm(build('upernet/convnext_t_512_160k.py', change)).eval()
    path = tmp_path / f'file{ending}'
    write(theirs.state_dict(), path)
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    wanted = theirs(images).logits
    for load in (load_checkpoint, lambda m, p: mmengine_load_checkpoint(m, p, map_location='cpu')):
        randomise(model, 7)
        load(model, str(path))
        logits, auxiliary_logits = mmseg_logits(model, images)
        assert relative_difference(logits, wanted) <= 1e-4
        assert auxiliary_logits.shape == wanted.shape
    path.unlink()

    # Back again: transformers' own output does not change by a bit.
    parsed = parse(model.state_dict())
    assert parsed.naming == 'official'
    back = convert(model.state_dict(), 'transformers')
    state_dict = copy.deepcopy(theirs.state_dict())
    assert back.keys() == state_dict.keys()
    for parameter in theirs.parameters():
        parameter.fill_(7.)
    theirs.load_state_dict(back, strict=True)
    assert torch.equal(theirs(images).logits, wanted)


class Other(torch.nn.Module):
    """A model without a backbone of this project."""

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
        self.head = torch.nn.Linear(2, 3)


def without(*ends):
    return lambda state: {name: tensor for name, tensor in state.items() if not name.endswith(ends)}


@pytest.mark.parametrize(('change', 'message'), [
    (without('num_batches_tracked'), None), (lambda state: dict(state, more=torch.ones(1)), None),
    (without('head.bias'), r'1 missing: head\.bias'), (without('running_var'), r'1 missing: backbone\.1\.running_var'),
    (lambda state: {f'module.net.{name}': tensor for name, tensor in state.items()}, r'8 missing: backbone\.0\.weight'),
    (lambda state: dict(state, **{'head.bias': torch.ones(4)}), r'size mismatch for head\.bias')])
def test_models_of_other_libraries_get_all_their_weights(change, message, tmp_path):
    saved, model = Other(), Other()
    torch.save(dict(state_dict=change(saved.state_dict())), tmp_path / 'file.pth')
    if message:
        with pytest.raises(CheckpointError, match=rf'file\.pth: .*{message}'):
            load_checkpoint(model, tmp_path / 'file.pth')
        return
    load_checkpoint(model, tmp_path / 'file.pth')
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in saved.state_dict().items())
    # A part takes its own weights from the file of the whole.
    load_checkpoint(model := Other().backbone, tmp_path / 'file.pth')
    assert torch.equal(model[0].weight, saved.backbone[0].weight)
