"""Predictions for images of the user's own: annotated pictures, and results for other programs (`tools/predict.py`)."""
import contextlib
import glob
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS
from PIL import Image, UnidentifiedImageError

from convnext_mm.apis.arguments import SCORE_THR
from convnext_mm.apis.config import load_config
from convnext_mm.checkpoint.download import locate
from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.checkpoint.mmengine_loader import load_checkpoint, register_loader
from convnext_mm.drawing import pictures as drawing
from convnext_mm.evaluation.predictions import (
    INDEX_FILE,
    index_categories,
    to_annotations,
    write_detections,
    write_index_map,
)
from convnext_mm.models.build import check_backbone
from convnext_mm.utils.configs import is_segmentor, test_dataset, type_name
from convnext_mm.utils.errors import ArgumentValueError, UserError
from convnext_mm.utils.files import check_place, whole_file
from convnext_mm.utils.progress import Bar

#: Endings of the files that are taken from a folder or a glob.
ENDINGS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
#: Folders of the results.
PICTURES, MAPS = 'pictures', 'maps'


class Loaded(NamedTuple):
    """An image on its way: its number from 1, file, pixels as the model got to see them (RGB), and its input."""

    number: int
    file: Path
    pixels: np.ndarray
    data: dict


def find_images(inputs, out_dir):
    """Files for a list of images, folders (with everything below) and globs, each once, in order.

    Args:
        inputs (Sequence[str]): As given.
        out_dir (str | Path): Its pictures and maps are left out, as they may lie in a folder that is given.

    Raises:
        UserError: Naming an input in which there is no image.
    """
    own, files = {Path(out_dir, folder).resolve() for folder in (PICTURES, MAPS)}, {}
    for name in inputs:
        path = Path(name).expanduser()
        if path.is_file():
            found = [path]
        elif path.is_dir():
            found = sorted(file for file in path.rglob('*') if file.suffix.lower() in ENDINGS and file.is_file())
        else:
            found = sorted(Path(match) for match in glob.glob(str(path), recursive=True)
                           if match.lower().endswith(ENDINGS) and os.path.isfile(match))
        found = [file for file in found if own.isdisjoint(file.resolve().parents)]
        if not found:
            raise UserError(f'input {name!r} {"has no images" if path.is_dir() else "is no file, and matches none"}; '
                            f'expected images, folders or globs of {", ".join(ENDINGS)}')
        files.update((file.resolve(), file) for file in found if file.resolve() not in files)
    return list(files.values())


def output_names(files):
    """A name without ending for each file, its own where that is free, else with a number behind it."""
    names, taken = [], set()
    for file in files:
        name, number = file.stem, 1
        while name in taken:
            number += 1
            name = f'{file.stem}_{number}'
        taken.add(name)
        names.append(name)
    return names


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

    def __init__(self, cfg, checkpoint, device):
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
        colours = (settings.get('metainfo') or {}).get('palette') or ()
        self.palette = (np.array(colours, np.uint8) if len(colours) == len(self.names)
                        else drawing.palette(len(self.names)))

    def load(self, number, file):
        """An image through the transforms; whatever is wrong with it raises."""
        if not file.stat().st_size:
            raise UserError('the file is empty')
        # OpenCV 4 fills what a truncated file lacks with grey, without a word.
        with contextlib.suppress(UnidentifiedImageError, Image.DecompressionBombError), Image.open(file) as image:
            image.load()
        results, pixels = dict(img_path=str(file), img_id=number), None
        for transform in self.transforms:
            results = transform(results)
            if pixels is None and 'img' in results:
                pixels = _rgb(results['img'])
        return Loaded(number, file, pixels, results)

    def __call__(self, batch):
        """Data samples of mm's for a list of ``Loaded`` of one shape, in the images' own pixels."""
        with torch.no_grad():
            return self.model.test_step(pseudo_collate([loaded.data for loaded in batch]))


def _rgb(image):
    """What mm loaded (BGR or grey, any depth) for drawing."""
    image = np.clip(image, 0, 255).astype(np.uint8)
    image = image[..., None] if image.ndim == 2 else image
    return np.ascontiguousarray(image[..., 2::-1] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2))


def batches(items, size):
    """Lists of up to ``size`` neighbours whose inputs are of one shape, so that nobody's padding depends on others."""
    batch = []
    for item in items:
        if batch and (len(batch) == size or item.data['inputs'].shape != batch[0].data['inputs'].shape):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


class Detections:
    """Writes a detector's results: pictures, and ``predictions.json`` in COCO's format with ids from 1."""

    def __init__(self, predictor, folder, score_thr):
        self.predictor, self.folder, self.score_thr, self.annotations = predictor, folder, score_thr, []

    def add(self, loaded, sample, entry):
        found = sample.pred_instances[sample.pred_instances.scores >= self.score_thr].cpu().numpy()
        masks = found.get('masks')
        ids = range(1, len(self.predictor.names) + 1)
        self.annotations += to_annotations(entry['id'], found.bboxes, found.scores, found.labels, ids, masks)
        return drawing.draw_instances(loaded.pixels, found.bboxes, found.labels, self.predictor.names,
                                      found.scores, masks, self.predictor.palette)

    def finish(self, info, images):
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(self.predictor.names)]
        write_detections(self.folder / INDEX_FILE, info, images, categories, self.annotations)


class Segmentations:
    """Writes a segmentor's results: pictures, index PNGs, and ``predictions.json`` with what their values mean."""

    def __init__(self, predictor, folder):
        self.predictor, self.folder = predictor, folder

    def add(self, loaded, sample, entry):
        index_map = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
        entry['map'] = f'{MAPS}/{Path(entry["picture"]).name}'
        write_index_map(self.folder / entry['map'], index_map, self.predictor.reduce_zero_label)
        names, palette = self.predictor.names, self.predictor.palette
        return drawing.with_legend(drawing.draw_segmentation(loaded.pixels, index_map, names, palette),
                                   drawing.segmentation_legend([index_map], names, palette))

    def finish(self, info, images):
        categories = index_categories(self.predictor.names, self.predictor.reduce_zero_label)
        with whole_file(self.folder / INDEX_FILE) as temporary:
            temporary.write_text(json.dumps(dict(info=info, images=images, categories=categories)))


def find_device(name):
    """The device of a name such as ``cpu`` or ``cuda:1``; mmengine's choice for None.

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


def main(args):
    """Predict by a command line (see `tools/predict.py`); return the exit code, 1 where images were skipped."""
    for name, value, low, high in (('batch-size', args.batch_size, 1, None), ('score-thr', args.score_thr, 0, 1)):
        if value is not None and (value < low or high is not None and value > high):
            raise ArgumentValueError(f'--{name} must be {f"from {low} to {high}" if high else f"{low} or more"}, '
                                     f'got {value}')
    cfg = load_config(args, 'test_dataloader')
    if is_segmentor(cfg.model) and args.score_thr is not None:
        raise ArgumentValueError('--score-thr is for detectors: a segmentor gives every pixel its likeliest class')
    device, folder = find_device(args.device), Path(args.out_dir)
    files = find_images(args.inputs, folder)
    check_place('--out-dir', folder / INDEX_FILE)
    check_backbone(cfg)
    trust_pickles(args.trust_checkpoint)
    predictor = Predictor(cfg, str(locate(args.checkpoint)), device)
    info = dict(config=args.config, weights=dict(source=args.checkpoint))
    if predictor.segments:
        results = Segmentations(predictor, folder)
    else:
        info['score_thr'] = SCORE_THR if args.score_thr is None else args.score_thr
        results = Detections(predictor, folder, info['score_thr'])
    images, skipped = _run(predictor, files, folder, results, args.batch_size)
    results.finish(dict(info, skipped=skipped), images)
    print(f'{len(images)} pictures in {folder / PICTURES}, results in {folder / INDEX_FILE}', flush=True)
    if skipped:
        print(f'{len(skipped)} of {len(files)} images were skipped: {", ".join(skipped)}', flush=True)
    return bool(skipped)


def _run(predictor, files, folder, results, batch_size):
    """Entries of the images that were done, for ``predictions.json``, and the names of those that were skipped."""
    names, images, skipped, bar = output_names(files), [], [], Bar(len(files), 'images')

    def load_all():
        for number, file in enumerate(files, 1):
            try:
                yield predictor.load(number, file)
            except Exception as error:  # Decoders and transforms raise nearly anything at a broken image.
                reason = ' '.join(str(error).split()) or type(error).__name__
                bar.say(f'{file} is skipped: {reason}')
                skipped.append(str(file))
                bar.add()

    for batch in batches(load_all(), batch_size):
        try:
            samples = predictor(batch)
        except torch.cuda.OutOfMemoryError:
            height, width = batch[0].pixels.shape[:2]
            raise UserError(f'--batch-size {batch_size}: {len(batch)} images of {width} x {height} pixels do not fit '
                            'into the memory of the device; take fewer, or --device cpu') from None
        for loaded, sample in zip(batch, samples):
            height, width = loaded.pixels.shape[:2]
            entry = dict(id=loaded.number, file_name=str(loaded.file), width=width, height=height,
                         picture=f'{PICTURES}/{names[loaded.number - 1]}.png')
            picture = results.add(loaded, sample, entry)
            with whole_file(folder / entry['picture']) as temporary:
                Image.fromarray(picture).save(temporary, 'PNG')
            images.append(entry)
            bar.add()
    return images, skipped
