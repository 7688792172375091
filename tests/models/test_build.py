"""A model is built and gets the weights of a checkpoint, or the fault is named."""
import io

import pytest
import torch
from mmengine.registry import MODELS

from convnext_mm.models.build import build_model, load_model
from convnext_mm.models.ops import packed
from convnext_mm.utils.errors import UserError

SMALL = dict(type='convnext_mm.ConvNeXt', arch=dict(depths=(1, 1, 1, 1), channels=(4, 8, 12, 16)))


@MODELS.register_module()
class MutePart(torch.nn.Linear):
    """A part of a model whose ``train`` returns nothing, as that of mmdet's ResNet."""

    def train(self, mode=True):
        super().train(mode)


@pytest.mark.parametrize(('settings', 'said'), [
    (dict(type='NoneOfThese'), "KeyError: 'NoneOfThese is not in the"), (None, 'TypeError: cfg should be a dict'),
    (dict(type='MutePart', colour='red'), 'TypeError: .*colour'), (dict(SMALL, arch='atom'), '^arch must be')])
def test_what_cannot_be_built_is_named(settings, said):
    with pytest.raises(UserError, match=said):
        build_model(settings)


def test_a_part_is_in_eval_mode_whatever_its_method_returns():
    assert build_model(dict(type='MutePart', in_features=1, out_features=1)).training is False


@pytest.mark.parametrize(('meta', 'classes'), [
    (None, None), ('some text', None), ({}, None), (dict(dataset_meta=None), None), (dict(CLASSES=('a', 'b')), 'ab'),
    (dict(dataset_meta=dict(CLASSES=('a', 'b')), CLASSES='cd'), 'ab'), (dict(dataset_meta=dict(classes='ab')), 'ab')])
def test_classes_are_those_that_the_checkpoint_names(tmp_path, meta, classes):
    torch.save(dict(state_dict=build_model(SMALL).state_dict(), meta=meta), tmp_path / 'model.pth')
    found = load_model(SMALL, tmp_path / 'model.pth')[1]
    assert (found and ''.join(found)) == classes


def test_a_loaded_model_lays_its_weights_out_once_it_has_the_checkpoint(tmp_path, monkeypatch):
    learned, calls, pack = build_model(SMALL), [], packed.pack
    torch.save(learned.state_dict(), tmp_path / 'model.pth')
    monkeypatch.setattr(packed, 'pack', lambda *args: calls.append(args) or pack(*args))
    model, x = load_model(SMALL, tmp_path / 'model.pth')[0], torch.randn(1, 3, 64, 64)
    assert not calls
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(model(x), learned(x))
            assert len(calls) == 8


@pytest.mark.parametrize('settings', [
    SMALL, dict(SMALL, memory_format='contiguous_format', use_grn=True, layer_scale_init_value=0, output_stride=8),
    dict(type='convnext_mm.IsotropicConvNeXt', arch=dict(depth=2, channels=8)),
    dict(type='convnext_mm.ModernizedResNet', width_divisor=8)])
def test_a_whole_model_is_saved_and_read(settings):
    model, file = build_model(settings), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    again, x = torch.load(file, weights_only=False), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(again(x), model(x), strict=True):
            assert torch.equal(found, expected)
