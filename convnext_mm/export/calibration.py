"""Images by which a file in int8 is calibrated and tried: as the graph takes them, after the steps of the test."""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from convnext_mm.utils.configs import is_segmentor, leaf_datasets
from convnext_mm.utils.errors import UserError

#: As many images are taken.
CALIBRATED = 32


def read_calibration(cfg: Any, files: Sequence[str | Path], transforms: Sequence[Callable]) -> list[tuple]:
    """Return images ``(1, 3, H, W)``, RGB, uint8, and for a segmentor the size of the result, of at most 32 files.

    Args:
        cfg (Config): Of the model.
        files (Sequence[Path]): Images; where there are none, those of the training set, evenly spread.
        transforms (Sequence[Callable]): Of the config's test, without its annotations.

    Raises:
        UserError: Fewer than two images can be read.
    """
    inputs: list[tuple] = []
    for file in list(files or _training_files(cfg))[:CALIBRATED]:
        results: Any = dict(img_path=str(file), img_id=0)
        try:
            for transform in transforms:
                results = transform(results)
        except Exception as error:  # Readers of images raise nearly anything.
            raise UserError(f'--int8: {file} cannot be read as an image: {error}') from error
        # mm reads images as BGR.
        image = results['inputs'].flip(0)[None].numpy()
        inputs.append((image, image.shape[2:]) if is_segmentor(cfg.model) else (image,))
    if len(inputs) < 2:
        raise UserError('--int8 takes at least two images, by --images or of the training set')
    return inputs


def _training_files(cfg):
    """Return the files of images of the config's training set, of wrapped ones the first."""
    if not cfg.get('train_dataloader'):
        raise UserError('--int8 takes images: give some by --images, as the config has no train_dataloader')
    settings = next(leaf for _, leaf in leaf_datasets(cfg.train_dataloader.dataset, ''))
    try:
        dataset = DATASETS.build(dict(settings, pipeline=[]))
        every = max(1, len(dataset) // CALIBRATED)
        return [dataset.get_data_info(index)['img_path'] for index in range(0, len(dataset), every)]
    except Exception as error:  # Data sets raise nearly anything where their files are missing.
        reason = (str(error).splitlines() or [''])[0][:200]
        raise UserError(f'--int8 takes images: give some by --images, as the training set of the config cannot be read '
                        f'({type(error).__name__}: {reason})') from error
