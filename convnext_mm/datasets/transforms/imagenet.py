"""The transforms of ImageNet trainings: an image file in, the tensor that the network gets out, all by timm.

mmpretrain's own differ: random erasing acts before the image is normalised, OpenCV augments where timm has Pillow, and
its data preprocessor normalises.
"""
import io
from typing import Any

import numpy as np
from mmengine import fileio
from PIL import Image

from convnext_mm.datasets.transforms.normalised import join_last_steps
from convnext_mm.datasets.transforms.official import TRAINING, testing, timm_data
from convnext_mm.datasets.transforms.posterised import allow_no_bits
from convnext_mm.registry import TRANSFORMS
from convnext_mm.utils.arguments import check_integer
from convnext_mm.utils.errors import ArgumentTypeError


def read_image(path: str, backend_args: dict | None = None) -> Image.Image:
    """Return an image file as torchvision's ``ImageFolder`` reads it: RGB, not turned by its EXIF orientation."""
    with Image.open(io.BytesIO(fileio.get(path, backend_args))) as image:
        image.load()
        # A conversion would copy.
        return image if image.mode == 'RGB' else image.convert('RGB')


class _TimmTransform:
    """Replace ``img_path``, or ``img`` as mm loads it, by ``img``: float32, (3, size, size), RGB, normalised.

    ``PackInputs`` follows. The model's data preprocessor may neither normalise nor exchange channels.

    Args:
        size (int): Side in pixels. Defaults to 224.
        backend_args (dict, optional): Of mmengine's ``fileio``. Defaults to none: files are local.
        options (Any): More arguments of timm's ``create_transform``, in place of the official ones.

    Raises:
        UserError: timm is not installed.
        ArgumentTypeError, ArgumentValueError: ``size`` is no integer from 1 to 4096, or timm has no such argument.
    """

    def __init__(self, size=224, backend_args=None, **options):
        self.size, self.backend_args = check_integer('size', size, 1, 4096), backend_args
        try:
            transform = timm_data().create_transform(self.size, **self._official() | options)
        except TypeError as error:
            raise ArgumentTypeError(f'{type(self).__name__}: {error}') from error
        self.transform = join_last_steps(allow_no_bits(transform))

    def _official(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_pixels(self, path: str) -> np.ndarray:
        """Return an image file as mm loads it, BGR, uint8, (H, W, 3), for pictures."""
        return np.asarray(read_image(path, self.backend_args))[..., ::-1]

    def __call__(self, results: dict) -> dict:
        """Return the sample with ``img``, ``img_shape`` and ``ori_shape``; the shapes are (height, width)."""
        if 'img_path' in results:
            image = read_image(results['img_path'], self.backend_args)
        else:
            # mmpretrain's inferencer loads images itself.
            image = Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))
        results.update(img=self.transform(image), ori_shape=image.size[::-1], img_shape=(self.size, self.size))
        return results


@TRANSFORMS.register_module()
class ImageNetTrainTransform(_TimmTransform):
    """Augment an image as the paper does: random crop, flip, RandAugment, normalisation, random erasing.

    timm draws from the global states of ``random``, numpy and torch. Arguments: ``size`` (224), ``backend_args``
    (none), and those of timm's ``create_transform``, in place of the official ones.
    """

    def _official(self) -> dict[str, Any]:
        return TRAINING


@TRANSFORMS.register_module()
class ImageNetEvalTransform(_TimmTransform):
    """Prepare an image for a test as the paper does.

    Below 384 pixels: the shorter side resized to size / 0.875, and a crop of the centre. From 384 on: the whole image
    warped to a square. Arguments: ``size`` (224), ``backend_args`` (none), and those of timm's ``create_transform``,
    in place of the official ones.
    """

    def _official(self) -> dict[str, Any]:
        return testing(self.size)
