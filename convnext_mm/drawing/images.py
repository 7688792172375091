"""Images as pictures show them, and pictures on disk."""
from pathlib import Path

import numpy as np
from PIL import Image

from convnext_mm.utils.files import whole_file

#: Percentiles of a band that become black and white where values are stretched.
PERCENTILES = (2, 98)
#: An image of 8 bits whose values between these percentiles span fewer levels is stretched too.
FLAT, FLAT_PERCENTILES = 32, (.1, 99.9)
#: Values that are looked at for percentiles.
_LOOKED_AT = 1_000_000


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image as mm loads it, of any depth and any number of bands, as a picture that shows what is in it.

    Of three and more bands the first three are blue, green and red, as mm has them; of one and two, the first is grey.
    8-bit images of one, three or four bands stay as they are, unless 998 of 1000 values lie within 32 levels (as the
    12 bits of a camera do in a 16-bit file that is loaded as 8 bits). All others are stretched: in each band by itself,
    the 2nd percentile becomes black and the 98th white (the least and the greatest value, where these are equal). NaN
    is black, and a band of one value grey.

    Args:
        image (ndarray): Numbers, (H, W) or (H, W, C).

    Returns:
        ndarray: RGB, uint8, (H, W, 3).
    """
    image = image[..., None] if image.ndim == 2 else image
    shown = image[..., 2::-1] if image.shape[2] >= 3 else image[..., :1]
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3, 4) or _is_flat(shown):
        shown = np.stack([_stretch(band) for band in np.moveaxis(shown, 2, 0)], axis=2)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _percentiles(values, percentiles):
    """Return percentiles of an array; of a large one, those of a part that is spread over it."""
    step = values.size // _LOOKED_AT + 1
    # Values of three bands alternate: do not take those of one band alone.
    return np.percentile(values.ravel()[::step + (step % 3 == 0)], percentiles)


def _is_flat(image):
    low, high = _percentiles(image, FLAT_PERCENTILES)
    return 0 < high - low < FLAT


def _stretch(band):
    """Return a band, (H, W), as uint8, its lowest values black and its highest white."""
    band = np.asarray(band, np.float64)
    known = band[np.isfinite(band)]
    if not known.size:
        return np.zeros(band.shape, np.uint8)
    low, high = _percentiles(known, PERCENTILES)
    if low == high:
        low, high = known.min(), known.max()
    if low == high:
        return np.where(np.isnan(band), 0, 128).astype(np.uint8)
    return (np.nan_to_num(np.clip((band - low) / (high - low), 0, 1)) * 255).round().astype(np.uint8)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write an RGB picture, uint8, (H, W, 3), as a PNG.

    Raises:
        WriteError: The file cannot be written.
    """
    with whole_file(path) as temporary:
        Image.fromarray(picture).save(temporary, 'PNG')
