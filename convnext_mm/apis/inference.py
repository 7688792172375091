"""A model with the transforms of its config's test, for images that are in no data set."""
import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS
from PIL import Image, UnidentifiedImageError

from convnext_mm.drawing import choose_palette, to_rgb
from convnext_mm.export.exported import use_exported
from convnext_mm.export.facts import is_exported
from convnext_mm.models.build import build_model, load_model
from convnext_mm.utils.configs import is_classifier, is_segmentor, test_dataset, type_name
from convnext_mm.utils.errors import ArgumentValueError, UserError, describe_error


class Loaded(NamedTuple):
    """An image that is ready for the model.

    Attributes:
        number (int): From 1.
        file (Path): Where it was read.
        pixels (ndarray): What the model got to see, as ``drawing.to_rgb`` shows it: RGB, uint8, (H, W, 3).
        data (dict): The model's input, of mm's pipeline.
        frames (int): Images in the file, of which this is the first. Defaults to 1.
    """

    number: int
    file: Path
    pixels: np.ndarray
    data: dict
    frames: int = 1


def build_dataset(cfg: Config):
    """Return the data set of a config's test without annotations: it knows its classes, and builds the transforms."""
    settings = test_dataset(cfg)
    return DATASETS.build(dict(settings, lazy_init=True, pipeline=[
        transform for transform in settings.pipeline if not type_name(transform).endswith('Annotations')]))


def _own_classes(dataset):
    """Return the names of a data set's classes; those of class folders are known when these are read."""
    if 'classes' not in dataset.metainfo:
        try:
            dataset.full_init()
        except Exception as error:  # Each data set reads its files in a way of its own.
            raise UserError('the names of the classes are neither in the checkpoint nor in the config, and the data '
                            f'cannot be read ({describe_error(error)}): set test_dataloader.dataset.metainfo.classes'
                            ) from error
    return dataset.metainfo['classes']


class Predictor:
    """A model with the transforms of its config's test.

    Args:
        cfg (Config): Of a detector, a segmentor or a classifier.
        checkpoint (str): A path, an address or a short name; or an exported file.
        device (torch.device): Where it runs.

    Attributes:
        names (list[str]): Of the classes, by the checkpoint or else by the config's data set.
        palette (ndarray): RGB, uint8, (K, 3): the data set's, or else ``drawing.palette``.
        segments, classifies (bool): Whether it is a segmentor, or a classifier.
        reduce_zero_label (bool): Whether the data set's files number the classes from 1.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: torch.device):
        dataset = build_dataset(cfg)
        self.transforms = dataset.pipeline.transforms
        self.segments, self.classifies = is_segmentor(cfg.model), is_classifier(cfg.model)
        if is_exported(checkpoint):
            names = use_exported(cfg, checkpoint).get('classes')
            model = build_model(cfg.model)
        else:
            model, names = load_model(cfg.model, checkpoint)
        self.model = model.to(device)
        self.reduce_zero_label = bool(dataset.metainfo.get('reduce_zero_label'))
        self.names = list(names or _own_classes(dataset))
        self.palette = choose_palette(dataset.metainfo.get('palette'), len(self.names))

    def load(self, number: int, file: Path) -> Loaded:
        """Return an image after the transforms; whatever is wrong with it raises."""
        if not file.stat().st_size:
            raise UserError('the file is empty')
        frames = 1
        # OpenCV 4 fills what a truncated file lacks with grey, without a word.
        with contextlib.suppress(UnidentifiedImageError, Image.DecompressionBombError), Image.open(file) as image:
            image.load()
            # A camera adds previews to a photograph, as MPO.
            frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
        results, pixels = dict(img_path=str(file), img_id=number), None
        for transform in self.transforms:
            results = transform(results)
            if pixels is None and hasattr(transform, 'load_pixels'):
                pixels = to_rgb(transform.load_pixels(str(file)))
            elif pixels is None and 'img' in results:
                pixels = to_rgb(results['img'])
        return Loaded(number, file, pixels, results, frames)

    def __call__(self, batch: list[Loaded]) -> list:
        """Return mm's data samples for images of one shape, in the images' own pixels."""
        with torch.no_grad():
            return self.model.test_step(pseudo_collate([loaded.data for loaded in batch]))


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
