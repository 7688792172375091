"""Images and pictures on disk."""
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from convnext_mm.utils.errors import ArgumentValueError
from convnext_mm.utils.files import whole_file


def decode_image(data: bytes) -> np.ndarray:
    """Return the pixels of an image file's content as mm loads them: turned by EXIF, 8 bits deep, RGB, (H, W, 3).

    Raises:
        ArgumentValueError: The content is not that of an image.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise ArgumentValueError(f'data must be the content of an image file, got {len(data)} bytes that are none')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write an RGB picture, uint8, (H, W, 3), as a PNG.

    Raises:
        WriteError: The file cannot be written.
    """
    with whole_file(path) as temporary:
        Image.fromarray(picture).save(temporary, 'PNG')
