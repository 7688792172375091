"""Weights that are laid out once: when they are, and that results are those of the weights as they are now."""
import copy
import io

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext_mm.models.layers import ConvNeXtBlock
from convnext_mm.models.ops import cpu, packed
from convnext_mm.models.packing import pack_weights
from tests.helpers.blocks import images, make_block, run
from tests.helpers.models import relative_difference

#: Of images of one piece and of several.
SMALL, LARGE = (1, 16, 5, 6), (2, 16, 9, 8)


@pytest.fixture
def laid_out(monkeypatch):
    """The shapes of weights that were laid out."""
    shapes, pack = [], packed.pack

    def record(weight, dtype):
        shapes.append(tuple(weight.shape))
        return pack(weight, dtype)
    monkeypatch.setattr(packed, 'pack', record)
    monkeypatch.setattr(cpu, 'pack', record)
    return shapes


def predict(block, x, autocast=None):
    with torch.no_grad(), torch.autocast('cpu', autocast or torch.bfloat16, enabled=autocast is not None):
        return block(x)


def expected(block, x, autocast=None):
    """Return what a block of the same weights gives that keeps nothing."""
    return predict(copy.deepcopy(block), x, autocast)


@pytest.mark.parametrize(('shape', 'keeps', 'in_calls'), [
    (SMALL, False, (0, 0)), (LARGE, False, (2, 2)), (SMALL, True, (2, 0)), (LARGE, True, (2, 0))])
def test_a_weight_is_laid_out_for_many_products(shape, keeps, in_calls, laid_out):
    block, x = make_block().eval(), images(*shape)
    if keeps:
        pack_weights(block)
    for count in in_calls:
        predict(block, x)
        assert laid_out == [(64, 16), (16, 64)][:count]
        laid_out.clear()


@pytest.mark.parametrize('shape', [SMALL, LARGE, (2, 16, 1, 1), (0, 16, 9, 8)], ids=str)
@pytest.mark.parametrize(('autocast', 'tolerance'), [(None, 1e-6), (torch.bfloat16, 1e-2)])
def test_results_are_those_of_the_parts(shape, autocast, tolerance, products):
    block, x = make_block().eval(), images(*shape)
    pack_weights(block)
    with torch.no_grad():
        exact = copy.deepcopy(block).double()._by_parts(x.double())
    for found in (predict(block, x, autocast), predict(block, x, autocast), expected(block, x, autocast)):
        assert found.dtype == torch.float32 and found.shape == x.shape
        assert not len(x) or relative_difference(found.double(), exact) < tolerance


def step(block):
    with torch.no_grad():
        block.pwconv1.weight.mul_(-1)


def load(block):
    block.load_state_dict({name: -value for name, value in block.state_dict().items()})


def exchange(block):
    for linear in (block.pwconv1, block.pwconv2):
        linear.weight = torch.nn.Parameter(-linear.weight.detach())


def point_elsewhere(block):
    block.pwconv2.weight.data = -block.pwconv2.weight.data


def write_and_tell(block):
    block.pwconv2.weight.data.neg_()
    pack_weights(block)


@pytest.mark.parametrize('change', [
    step, load, exchange, point_elsewhere, write_and_tell, ConvNeXtBlock.bfloat16, ConvNeXtBlock.double])
@pytest.mark.parametrize('shape', [SMALL, LARGE])
def test_weights_that_have_changed_are_laid_out_again(change, shape):
    block, x = make_block().eval(), images(*shape)
    pack_weights(block)
    before = predict(block, x)
    change(block)
    x = x.to(block.gamma.dtype)
    found = predict(block, x)
    torch.testing.assert_close(found, expected(block, x))
    assert not torch.equal(found, before)


def test_precisions_in_turn(laid_out):
    block, x = make_block().eval(), images(*SMALL)
    pack_weights(block)
    for autocast, times in ((None, 1), (torch.bfloat16, 2), (None, 2), (torch.bfloat16, 2)):
        torch.testing.assert_close(predict(block, x, autocast), expected(block, x, autocast))
        assert len(laid_out) == 2 * times


def test_changes_of_inference_tensors_cannot_be_seen_so_none_is_kept(laid_out):
    with torch.inference_mode():
        block, x = make_block().eval(), images(*SMALL)
        pack_weights(block)
        for _ in range(2):
            torch.testing.assert_close(block(x), expected(block, x))
            block.pwconv1.weight.mul_(-1)
    assert not laid_out


def test_gradients_are_those_of_weights_that_are_not_kept():
    block, x = make_block(), images(*LARGE)
    expected = run(block, block, x)
    pack_weights(block)
    found = run(block, block, x)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)


def test_others_see_the_weights_as_they_were():
    """Whoever copies, saves, compares, counts or hooks."""
    block, x = make_block().eval(), images(*SMALL)
    before = copy.deepcopy(block.state_dict())
    expected = predict(block, x)
    pack_weights(block)
    predict(block, x)
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    for again in (block, copy.deepcopy(block), torch.load(file, weights_only=False)):
        for name, tensor in again.state_dict().items():
            assert torch.equal(tensor, before[name])
        torch.testing.assert_close(predict(again, x), expected)
    with FlopCounterMode(display=False) as counter:
        torch.testing.assert_close(predict(block, x), expected)
    assert counter.get_total_flops() >= 2 * 30 * 2 * 16 * 64
    seen = []
    block.act.register_forward_hook(lambda module, args, output: seen.append(output))
    torch.testing.assert_close(predict(block, x), expected)
    assert len(seen) == 1


def test_copies_go_with_their_weights():
    kept = len(packed._KEPT)
    block = make_block()
    pack_weights(block)
    assert len(packed._KEPT) == kept + 2
    predict(block, images(*SMALL))
    del block
    assert len(packed._KEPT) == kept
