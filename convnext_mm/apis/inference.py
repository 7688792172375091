"""A model with the transforms of its config's test, for images that are in no data set."""
import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS
from PIL import Image, UnidentifiedImageError

from convnext_mm.checkpoint.mmengine_loader import load_checkpoint, register_loader
from convnext_mm.drawing import choose_palette
from convnext_mm.utils.configs import is_segmentor, test_dataset, type_name
from convnext_mm.utils.errors import ArgumentValueError, UserError


class Loaded(NamedTuple):
    """An image that is ready for the model.

    Attributes:
        number (int): From 1.
        file (Path): Where it was read.
        pixels (ndarray): As the model got to see them: RGB, uint8, (H, W, 3).
        data (dict): The model's input, of mm's pipeline.
    """

    number: int
    file: Path
    pixels: np.ndarray
    data: dict


class Predictor:
    """A model with the transforms of its config's test.

    Args:
        cfg (Config): Of a detector or a segmentor.
        checkpoint (str): A path, an address or a short name.
        device (torch.device): Where it runs.

    Attributes:
        names (list[str]): Of the classes, by the checkpoint or else by the config's data set.
        palette (ndarray): RGB, uint8, (K, 3): the config's own, or else ``drawing.palette``.
        segments (bool): Whether it is a segmentor.
        reduce_zero_label (bool): Whether the data set's files number the classes from 1.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: torch.device):
        register_loader()
        settings = test_dataset(cfg)
        # Without its annotations a data set still knows its classes, and builds the transforms.
        dataset = DATASETS.build(dict(settings, lazy_init=True, pipeline=[
            transform for transform in settings.pipeline if not type_name(transform).endswith('Annotations')]))
        self.transforms = dataset.pipeline.transforms
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        meta = load_checkpoint(model, checkpoint).get('meta') or {}
        self.model = model.to(device).eval()
        self.segments = is_segmentor(model)
        self.reduce_zero_label = bool(dataset.metainfo.get('reduce_zero_label'))
        stored = meta.get('dataset_meta') or {}
        names = stored.get('classes') or stored.get('CLASSES') or meta.get('CLASSES') or dataset.metainfo['classes']
        self.names = list(names)
        self.palette = choose_palette((settings.get('metainfo') or {}).get('palette'), len(self.names))

    def load(self, number: int, file: Path) -> Loaded:
        """Return an image after the transforms; whatever is wrong with it raises."""
        if not file.stat().st_size:
            raise UserError('the file is empty')
        # OpenCV 4 fills what a truncated file lacks with grey, without a word.
        with contextlib.suppress(UnidentifiedImageError, Image.DecompressionBombError), Image.open(file) as image:
            image.load()
        results, pixels = dict(img_path=str(file), img_id=number), None
        for transform in self.transforms:
            results = transform(results)
            if pixels is None and 'img' in results:
                pixels = to_rgb(results['img'])
        return Loaded(number, file, pixels, results)

    def __call__(self, batch: list[Loaded]) -> list:
        """Return mm's data samples for images of one shape, in the images' own pixels."""
        with torch.no_grad():
            return self.model.test_step(pseudo_collate([loaded.data for loaded in batch]))


def to_rgb(image):
    """Return what mm loaded (BGR or grey, any depth) as RGB, uint8, (H, W, 3)."""
    image = np.clip(image, 0, 255).astype(np.uint8)
    image = image[..., None] if image.ndim == 2 else image
    return np.ascontiguousarray(image[..., 2::-1] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2))


def batches(items, size: int):
    """Yield lists of up to ``size`` neighbours whose inputs have one shape: no image's padding depends on others."""
    batch = []
    for item in items:
        if batch and (len(batch) == size or item.data['inputs'].shape != batch[0].data['inputs'].shape):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def find_device(name: str | None) -> torch.device:
    """Return the device of a name such as ``cpu`` or ``cuda:1``; mmengine's choice for None.

    Raises:
        ArgumentValueError: There is no such device here.
    """
    name = name or get_device()
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ArgumentValueError(f'--device {name!r} cannot be used here ({first}); expected one such as cpu or '
                                 f'cuda:0; there are {torch.cuda.device_count()} CUDA devices') from None
