"""What mm's preprocessors do with images in a test, for graphs."""
from typing import Any

from torch import Tensor


def normalise(images: Tensor, preprocessor: Any) -> Tensor:
    """Return RGB images of bytes as the model takes them: in its order of channels, normalised."""
    x = images.float()
    # Classic mmseg's has a name without the underscore.
    if not getattr(preprocessor, 'channel_conversion', getattr(preprocessor, '_channel_conversion', False)):
        # mm reads images as BGR, and this model wants them so.
        x = x.flip(1)
    return (x - preprocessor.mean) / preprocessor.std if preprocessor._enable_normalize else x
