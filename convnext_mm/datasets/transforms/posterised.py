"""timm's posterizing at its strongest: it keeps no bits of an image, which Pillow has come to refuse."""
import itertools
from typing import Any

from PIL import Image

from convnext_mm.datasets.transforms.official import timm_data


def allow_no_bits(transform: Any) -> Any:
    """Return timm's transform of an image, changed so that posterizing to no bits gives a black image, as it once did.

    RandAugment's strength is drawn around 9 of 10, and at 10 no bits are left: in about one of 650 images.
    """
    posterize = timm_data().auto_augment.posterize

    def tolerant(image: Image.Image, bits: int, **others: Any) -> Image.Image:
        return posterize(image, bits, **others) if bits else Image.new(image.mode, image.size)

    for step in transform.transforms:
        # RandAugment and AugMix have a list of operations, AutoAugment a list of lists.
        for operation in (*getattr(step, 'ops', ()), *itertools.chain(*getattr(step, 'policy', ()))):
            if operation.aug_fn is posterize:
                operation.aug_fn = tolerant
    return transform
