"""Pictures show what is in an image of any depth and number of bands, and appear whole."""
import numpy as np
import pytest
from PIL import Image

from convnext_mm.drawing import to_rgb, write_picture

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 9, 3), np.uint8)
#: A scene of reflectances: a dark ground with noise, and a bright square.
SCENE = np.random.RandomState(1).normal(.1, .01, (60, 80)).astype(np.float32)
SCENE[20:40, 30:50] += .1


@pytest.mark.parametrize(('image', 'expected'), [
    ([[[1, 2, 3], [90, 80, 70]]], (3, 2, 1)), ([[7, 90]], (7, 7, 7)), ([[[7], [90]]], (7, 7, 7)),
    ([[[1, 2, 3, 255], [90, 80, 70, 255]]], (3, 2, 1)), ([[[5, 5, 5]]], (5, 5, 5))])
def test_eight_bits_stay_as_they_are(image, expected):
    shown = to_rgb(np.array(image, np.uint8))
    assert shown.dtype == np.uint8 and shown.shape == (1, len(image[0]), 3) and tuple(shown[0, 0]) == expected


def bands(number, scene=SCENE):
    """A scene in bands of other brightness."""
    return np.stack([scene * (1 + .3 * i) for i in range(number)], axis=2)


DEEP = {'two dimensions': SCENE, **{f'{n} bands': bands(n) for n in (1, 2, 3, 4, 7)}}
KINDS = {'uint16': lambda x: (x * 10000).astype(np.uint16), '12 bits': lambda x: (x * 4000).astype(np.uint16),
         'int32': lambda x: (x * 1e9).astype(np.int32), 'int16 below 0': lambda x: (x * 9999 - 5000).astype(np.int16),
         'float32': lambda x: x, 'float16': lambda x: x.astype(np.float16),
         'float64': lambda x: x.astype(np.float64) * 1e300}


@pytest.mark.parametrize('shape', DEEP)
@pytest.mark.parametrize('kind', KINDS)
def test_deep_images_are_stretched(shape, kind):
    shown = to_rgb(KINDS[kind](DEEP[shape]))
    assert shown.shape == (60, 80, 3) and shown.dtype == np.uint8
    for band in np.moveaxis(shown, 2, 0):
        assert np.ptp(np.percentile(band, (5, 95))) > 150
        assert band[25:35, 35:45].min() > band[:15].max() + 30, 'the square stands out of the ground'
    grey = shape in ('two dimensions', '1 bands', '2 bands')
    assert grey == bool((shown == shown[..., :1]).all()) or shape[0] in '347'


def test_the_first_three_bands_are_blue_green_and_red():
    image = np.zeros((40, 40, 5), np.uint16)
    for band in range(5):
        image[band * 8:(band + 1) * 8, :, band] = 3000
    shown = to_rgb(image)
    colours = [tuple(shown[4 + 8 * band, 0]) for band in range(5)]
    assert colours == [(0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 0, 0), (0, 0, 0)]


def test_twelve_bits_that_were_loaded_as_eight_are_stretched():
    image = np.repeat((SCENE * 60).astype(np.uint8)[..., None], 3, axis=2)
    image[0, 0] = 255  # A hot pixel.
    shown = to_rgb(image)
    assert image[1:].max() < 20 and np.ptp(np.percentile(shown, (5, 95))) > 150
    bright = PIXELS // 8 * 4 + 100
    assert np.array_equal(to_rgb(bright), bright[..., ::-1]), 'a photograph of low contrast stays as it is'


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_what_is_not_a_number(channels):
    image = bands(channels)
    image[:10] = np.nan
    image[50:, :40], image[50:, 40:] = np.inf, -np.inf
    shown = to_rgb(image)
    assert (shown[:10] == 0).all() and (shown[50:, :40] == 255).all() and (shown[50:, 40:] == 0).all()
    assert shown[25:35, 35:45].min() > 180 and shown[10:15].max() < 150
    assert (to_rgb(np.full((4, 5, channels), np.nan)) == 0).all()


@pytest.mark.parametrize('value', [0, 7, 65535])
def test_images_of_one_value(value):
    assert (to_rgb(np.full((3, 4), value, np.uint16)) == 128).all()
    assert (to_rgb(np.full((3, 4, 3), value % 256, np.uint8)) == value % 256).all()


def test_a_small_object_on_an_even_ground():
    image = np.full((100, 100), 500, np.uint16)
    image[50, 50:55] = 900
    shown = to_rgb(image)
    assert (shown[50, 50:55] == 255).all() and shown[0, 0, 0] == 0


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (1, 5000), (3000, 2), (1500, 2000)])
def test_sizes(height, width):
    noise = np.random.RandomState(0).randint(0, 60000, (height, width, 3)).astype(np.uint16)
    shown = to_rgb(noise)
    assert shown.shape == (height, width, 3)
    assert height * width < 10 or np.percentile(shown, (10, 90)).round(-1).tolist() == [20, 230]


def test_a_picture_is_a_png(tmp_path):
    write_picture(tmp_path / 'new' / 'a.png', PIXELS)
    assert np.array_equal(np.array(Image.open(tmp_path / 'new' / 'a.png')), PIXELS)
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['a.png']
