"""Predict images of the user's own: files in, annotated pictures and results for other programs out."""
import glob
import json
import os
from pathlib import Path

import torch

from convnext_mm.apis.arguments import SCORE_THR
from convnext_mm.apis.config import load_config
from convnext_mm.apis.inference import Predictor, batches, find_device
from convnext_mm.checkpoint.download import locate
from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.drawing import draw_panels, join_panels, read_sample, write_picture
from convnext_mm.evaluation.predictions import (
    INDEX_FILE,
    index_categories,
    to_annotations,
    write_detections,
    write_index_map,
)
from convnext_mm.models.build import check_backbone
from convnext_mm.utils.configs import is_segmentor
from convnext_mm.utils.errors import ArgumentValueError, UserError
from convnext_mm.utils.files import check_place, whole_file
from convnext_mm.utils.progress import Bar

#: Endings of the files that are taken from a folder or a glob.
ENDINGS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
#: Folders of the results.
PICTURES, MAPS = 'pictures', 'maps'


def find_images(inputs, out_dir):
    """Return the files of a list of images, folders (with everything below) and globs, each once, in order.

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
    """Return a name without ending for each file, its own where that is free, else with a number behind it."""
    names, taken = [], set()
    for file in files:
        name, number = file.stem, 1
        while name in taken:
            number += 1
            name = f'{file.stem}_{number}'
        taken.add(name)
        names.append(name)
    return names


class Detections:
    """Collects a detector's results for ``predictions.json``, in COCO's format with ids from 1.

    Args:
        predictor (Predictor): Knows the classes.
        folder (Path): For the file.
    """

    def __init__(self, predictor, folder):
        self.names, self.folder, self.annotations = predictor.names, folder, []

    def add(self, found, entry):
        """Add the ``Instances`` found in an image, whose entry of ``predictions.json`` is given."""
        ids = range(1, len(self.names) + 1)
        self.annotations += to_annotations(entry['id'], found.boxes, found.scores, found.labels, ids, found.masks)

    def finish(self, info, images):
        """Write ``predictions.json``."""
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(self.names)]
        write_detections(self.folder / INDEX_FILE, info, images, categories, self.annotations)


class Segmentations:
    """Writes a segmentor's results: index PNGs, and ``predictions.json`` with what their values mean.

    Args:
        predictor (Predictor): Knows the classes and how files number them.
        folder (Path): For the files.
    """

    def __init__(self, predictor, folder):
        self.predictor, self.folder = predictor, folder

    def add(self, index_map, entry):
        """Write the class indices, (H, W), found in an image, and name the file in its entry."""
        entry['map'] = f'{MAPS}/{Path(entry["picture"]).name}'
        write_index_map(self.folder / entry['map'], index_map, self.predictor.reduce_zero_label)

    def finish(self, info, images):
        """Write ``predictions.json``."""
        categories = index_categories(self.predictor.names, self.predictor.reduce_zero_label)
        with whole_file(self.folder / INDEX_FILE) as temporary:
            temporary.write_text(json.dumps(dict(info=info, images=images, categories=categories)))


def check_arguments(args, segments):
    """Raise an ``ArgumentValueError`` for a number out of its range, or one that a segmentor has no use for."""
    for name, value, low, high in (('batch-size', args.batch_size, 1, None), ('score-thr', args.score_thr, 0, 1)):
        if value is not None and (value < low or high is not None and value > high):
            raise ArgumentValueError(f'--{name} must be {f"from {low} to {high}" if high else f"{low} or more"}, '
                                     f'got {value}')
    if segments and args.score_thr is not None:
        raise ArgumentValueError('--score-thr is for detectors: a segmentor gives every pixel its likeliest class')


def load_images(predictor, files, skipped, bar):
    """Yield each file ``Loaded``; name those that cannot be loaded, and add them to ``skipped``."""
    for number, file in enumerate(files, 1):
        try:
            yield predictor.load(number, file)
        except Exception as error:  # Decoders and transforms raise nearly anything at a broken image.
            reason = ' '.join(str(error).split()) or type(error).__name__
            bar.say(f'{file} is skipped: {reason}')
            skipped.append(str(file))
            bar.add()


def predict_batch(predictor, batch, batch_size):
    """Return the data samples of a batch; say what to do where the memory is too small for it."""
    try:
        return predictor(batch)
    except torch.cuda.OutOfMemoryError:
        height, width = batch[0].pixels.shape[:2]
        raise UserError(f'--batch-size {batch_size}: {len(batch)} images of {width} x {height} pixels do not fit '
                        'into the memory of the device; take fewer, or --device cpu') from None


def predict_files(predictor, files, results, score_thr, batch_size):
    """Predict images, write a picture of each, and give what was found to ``results``.

    Returns:
        tuple[list[dict], list[str]]: Entries of the images for ``predictions.json``, and the names of skipped files.
    """
    names, images, skipped, bar = output_names(files), [], [], Bar(len(files), 'images')
    for batch in batches(load_images(predictor, files, skipped, bar), batch_size):
        for loaded, sample in zip(batch, predict_batch(predictor, batch, batch_size)):
            height, width = loaded.pixels.shape[:2]
            entry = dict(id=loaded.number, file_name=str(loaded.file), width=width, height=height,
                         picture=f'{PICTURES}/{names[loaded.number - 1]}.png')
            found = read_sample(sample, score_thr)[1]
            results.add(found, entry)
            panels = draw_panels(loaded.pixels, found, None, predictor.names, predictor.palette)
            write_picture(results.folder / entry['picture'], join_panels(panels))
            images.append(entry)
            bar.add()
    return images, skipped


def main(args):
    """Predict by a command line (see `tools/predict.py`); return the exit code, 1 where images were skipped."""
    cfg = load_config(args, 'test_dataloader')
    check_arguments(args, is_segmentor(cfg.model))
    device, folder = find_device(args.device), Path(args.out_dir)
    files = find_images(args.inputs, folder)
    check_place('--out-dir', folder / INDEX_FILE)
    check_backbone(cfg)
    trust_pickles(args.trust_checkpoint)
    predictor = Predictor(cfg, str(locate(args.checkpoint)), device)
    info = dict(config=args.config, weights=dict(source=args.checkpoint))
    score_thr = SCORE_THR if args.score_thr is None else args.score_thr
    if not predictor.segments:
        info['score_thr'] = score_thr
    results = (Segmentations if predictor.segments else Detections)(predictor, folder)
    images, skipped = predict_files(predictor, files, results, score_thr, args.batch_size)
    results.finish(dict(info, skipped=skipped), images)
    print(f'{len(images)} pictures in {folder / PICTURES}, results in {folder / INDEX_FILE}', flush=True)
    if skipped:
        print(f'{len(skipped)} of {len(files)} images were skipped: {", ".join(skipped)}', flush=True)
    return bool(skipped)
