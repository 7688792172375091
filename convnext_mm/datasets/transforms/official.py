"""timm, by which the official repository augments, and its arguments there."""
from typing import Any

from convnext_mm.utils.errors import UserError

#: From this side on, images are tested as a whole, warped to a square. Source: the paper, A.2.
WHOLE_FROM = 384
#: Source: ``build_transform`` of the official ``datasets.py``, with the defaults of its ``main.py``. timm ignores
#: its colour jitter beside RandAugment.
TRAINING = dict(is_training=True, auto_augment='rand-m9-mstd0.5-inc1', interpolation='bicubic', re_prob=0.25,
                re_mode='pixel', re_count=1)


def timm_data() -> Any:
    """Return the module ``timm.data``.

    Raises:
        UserError: timm is not installed, or fails when it is imported.
    """
    try:
        from timm import data
    except ImportError as error:
        raise UserError(f"ImageNet's augmentation is timm's, which cannot be imported ({error}): "
                        'pip install "convnext_mm[pretrain]"') from error
    return data


def testing(size: int) -> dict[str, Any]:
    """Return the arguments of ``create_transform`` for images that are tested at a side of ``size``."""
    settings = dict(is_training=False, interpolation='bicubic')
    return settings | (dict(crop_pct=1.0, crop_mode='squash') if size >= WHOLE_FROM else dict(crop_pct=0.875))
