"""What decides whether two detections are the same one: boxes as boxes, and masks within one box."""
import numpy as np
import pytest
import torch

from convnext_mm.export.check import ExportError
from convnext_mm.export.detections import Comparison, paste

pytest.importorskip('torchvision', reason='masks are pasted by torchvision')

SIZE = 96, 128
#: A box three pixels high, in which a row of pixels is nine rows of the mask.
BOX = torch.tensor([.9286, 93.317, 56.851, 96])


def as_found(box, masks):
    """What a graph with room for two detections returns."""
    return [np.stack([box.numpy(), box.numpy() * 0])[None], np.array([[.9, 0]], np.float32), np.array([[1, 0]]),
            np.array([1]), torch.cat((masks, masks * 0))[None].numpy()]


def as_expected(box, masks):
    return [part.numpy() for part in (box[None], torch.tensor([.9]), torch.tensor([1]), paste(masks, box[None], SIZE))]


def rows(near):
    """A mask whose rows fall from 1 to 0 again and again; the pixels' row at 94.5 is ``near`` the middle between."""
    place = ((94.5 - BOX[1]) / (BOX[3] - BOX[1]) * 28 - .5).item()
    steep = (torch.arange(28.) - place) * .45 + .5 + near
    return steep.clamp(0, 1)[None, :, None].expand(1, 28, 28).contiguous()


def test_last_digits_of_a_corner_do_not_turn_pixels():
    moved, masks = BOX + torch.tensor([0, -2.4e-4, 1e-4, 0]), rows(-5e-4)
    # In its own box, the mask would have a row of pixels more.
    assert paste(masks, moved[None], SIZE).sum() > paste(masks, BOX[None], SIZE).sum() + 50
    Comparison()(as_expected(BOX, masks), as_found(moved, masks))


@pytest.mark.parametrize(('change', 'same'), [(6e-4, True), (-6e-4, True), (2e-3, False)])
def test_pixels_near_the_threshold_are_on_either_side(change, same):
    expected, found = as_expected(BOX, rows(-3e-4)), as_found(BOX, rows(-3e-4 + change))
    if same:
        Comparison()(expected, found)
    else:
        with pytest.raises(ExportError, match=r'by \d\d of \d+ pixels of the mask'):
            Comparison()(expected, found)


def test_threshold_is_that_of_the_config():
    masks = rows(0) * 0 + .4
    expected = as_expected(BOX, masks)
    expected[3] = paste(masks, BOX[None], SIZE, .3).numpy()
    assert expected[3].any()
    Comparison(.3)(expected, as_found(BOX, masks))
    with pytest.raises(ExportError, match='pixels of the mask'):
        Comparison()(expected, as_found(BOX, masks))


@pytest.mark.parametrize('box', [(-9, -9, -2, -2), (200, 200, 210, 210), (3, 3, 3, 3), (np.nan, 0, 5, np.inf),
                                 (-5, -5, 300, 300)])
def test_any_box_can_be_pasted(box):
    assert paste(torch.ones(1, 28, 28), torch.tensor([box], dtype=torch.float), SIZE).shape == (1, *SIZE)
