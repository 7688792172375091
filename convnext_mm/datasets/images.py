"""Check one image or index mask for flaws.

An image is sound if mmcv decodes it the way the pipeline does, and Pillow, where it knows the format, decodes it to its
end: versions of OpenCV differ in whether they fill up a JPEG that was cut off. Wrong pixels in a file that decodes
cannot be found.
"""
import io
import warnings
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from convnext_mm.datasets.flaws import Flaw, shorten_value


class Loader(NamedTuple):
    """How a pipeline reads its files.

    Attributes:
        color_type (str | None): mmcv's flag for images; None where a reader of another kind than mmcv's
            ``LoadImageFromFile`` reads them, so that only their presence can be checked.
        backend (str): mmcv's decoder of images. ``cv2`` and ``pillow`` turn an image as its EXIF orientation says.
        mask_backend (str): mmcv's decoder of index masks.
        with_mask (bool): Whether every instance must have a segmentation.
        poly2mask (bool): Whether run lengths are masks, too, besides polygons.
        annotated (bool): Whether it reads annotations: not where it has mmdet's ``LoadEmptyAnnotations``.
    """

    color_type: str | None = None
    backend: str = 'cv2'
    mask_backend: str = 'pillow'
    with_mask: bool = False
    poly2mask: bool = True
    annotated: bool = True


def loader_of(pipeline: Any) -> Loader:
    """Return how a built pipeline (mmengine's ``Compose``) reads its files."""
    found: dict[str, Any] = {}
    for transform in getattr(pipeline, 'transforms', ()):
        if type(transform).__name__ == 'LoadImageFromFile':
            found.update(color_type=transform.color_type, backend=transform.imdecode_backend)
        elif hasattr(transform, 'load_pixels'):
            found.update(color_type='color_ignore_orientation', backend='pillow')
        elif type(transform).__name__ == 'LoadAnnotations':
            found.update(mask_backend=transform.imdecode_backend, with_mask=getattr(transform, 'with_mask', False),
                         poly2mask=getattr(transform, 'poly2mask', True))
        elif type(transform).__name__ == 'LoadEmptyAnnotations':
            found.update(annotated=False)
    return Loader(**found)


def check_image_file(content: bytes, loader: Loader, expected: tuple | None = None) -> tuple[tuple | None, Flaw | None]:
    """Return the size of an image as its pipeline sees it, and what is wrong with it.

    Args:
        content (bytes): The file.
        loader (Loader): How it is decoded.
        expected (tuple, optional): Width and height according to the annotations. Defaults to None: unknown.

    Returns:
        tuple: (width, height) or None, and a ``Flaw`` or None.
    """
    if not content:
        return None, Flaw('unreadable image', 'the file is empty')
    if loader.color_type is None:
        return None, None
    size, error = _pillow(content, expected)
    if size and expected and sorted(size) != sorted(expected):
        # Stop before decoding: a damaged header may ask for any amount of memory.
        return size, _other_size(size, expected)
    if error is None:
        array, error = _mmcv(content, loader.color_type, loader.backend)
    if error is not None:
        cut = 'truncat' in error.lower() or _ends_early(content)
        return None, Flaw('truncated image' if cut else 'unreadable image', error)
    height, width = array.shape[:2]
    if expected and (width, height) != tuple(expected):
        return (width, height), _other_size((width, height), expected, turned=size != (width, height))
    return (width, height), None


def _other_size(size, expected, turned=False):
    text = '{} x {}, but its annotation says {} x {}'.format(*size, *expected)
    return Flaw('other size', text + (' (its EXIF orientation turns it when it is loaded)' if turned else ''))


def _pillow(content, expected=None):
    """Return (width, height) from the header, and Pillow's error; (None, None) where it does not know the format."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(io.BytesIO(content)) as image:
                if expected and sorted(image.size) != sorted(expected):
                    return image.size, None
                image.load()
                return image.size, None
        except UnidentifiedImageError:
            return None, None
        except Image.DecompressionBombError as error:
            # Pillow refuses large images, but the annotations may say that this one is large.
            return None, str(error) if expected and expected[0] * expected[1] < Image.MAX_IMAGE_PIXELS else None
        except Exception as error:  # Its decoders raise nearly anything on damaged data.
            return None, f'{type(error).__name__}: {error}'


def _mmcv(content, flag, backend):
    """Return the pixels and None, or None and the error of mmcv's decoder."""
    import mmcv
    try:
        array = mmcv.imfrombytes(content, flag=flag, backend=backend)
    except Exception as error:  # Each decoder raises errors of its own.
        return None, f'{type(error).__name__}: {" ".join(str(error).split())}'
    return array, None if array is not None else f'{backend} cannot decode it'


def _ends_early(content):
    """Return whether a JPEG or PNG lacks the mark at its end."""
    return (content.startswith(b'\xff\xd8') and not content.rstrip(b'\0').endswith(b'\xff\xd9')
            or content.startswith(b'\x89PNG') and b'IEND\xaeB`\x82' not in content)


def load_mask(content: bytes, loader: Loader) -> tuple[Any, Flaw | None]:
    """Return the values of an index mask, (H, W), and None; or None and the ``Flaw`` why it is no index map."""
    if not content:
        return None, Flaw('unreadable mask', 'the file is empty')
    error = _pillow(content)[1]
    if error is None:
        mask, error = _mmcv(content, 'unchanged', loader.mask_backend)
    if error is not None:
        return None, Flaw('unreadable mask', error)
    mask = mask.squeeze()
    if mask.ndim != 2:
        return None, Flaw('no index map', f'it has the shape {mask.shape}, where a mask has one index per pixel')
    return mask, None


def check_mask_file(content: bytes, loader: Loader, size: tuple | None, rule: tuple | None) -> tuple[Any, Flaw | None]:
    """Return the values of an index mask, (H, W), or None where they cannot be read, and what is wrong, or None.

    Args:
        content (bytes): The file.
        loader (Loader): How it is decoded.
        size (tuple | None): Width and height of its image; None where they are unknown.
        rule (tuple | None): Arguments of ``values_out_of_range`` besides the values; None to take all values.
    """
    mask, flaw = load_mask(content, loader)
    if flaw is None and size and mask.shape != (size[1], size[0]):
        flaw = Flaw('other size', f'{mask.shape[1]} x {mask.shape[0]}, but its image is {size[0]} x {size[1]}')
    return mask, flaw or check_mask_values(mask, rule)


def check_mask_values(mask: np.ndarray, rule: tuple | None) -> Flaw | None:
    """Return the flaw of a mask with values out of range, or None; see ``check_mask_file``."""
    if not rule:
        return None
    values, counts = _count(mask)
    wrong, highest = values_out_of_range(values, *rule)
    if not len(wrong):
        return None
    pixels = counts[np.isin(values, wrong)].sum()
    return Flaw('value out of range', f'{shorten_value(wrong.tolist())} in {pixels} pixels; {rule[0]} classes with '
                                      f'reduce_zero_label={rule[1]} allow at most {highest}')


def _count(mask):
    """Return the values of a mask and how many pixels hold each; ten times as fast as numpy's unique for bytes."""
    if mask.dtype != np.uint8:
        return np.unique(mask, return_counts=True)
    counts = np.bincount(mask.ravel(), minlength=256)
    values = np.flatnonzero(counts)
    return values, counts[values]


def values_out_of_range(values: np.ndarray, num_classes: int, reduce_zero_label: bool,
                        ignore_index: int = 255) -> tuple[np.ndarray, int]:
    """Return those of ``values`` that may not stand in a mask, and the highest that may, apart from "ignore"."""
    # With reduce_zero_label, 0 stands for "unlabelled" and 1 to K for the classes.
    highest = num_classes if reduce_zero_label else num_classes - 1
    return values[(values > highest) & (values != ignore_index) & (values != 255)], highest
