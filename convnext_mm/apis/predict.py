"""Predict images of the user's own: files in, annotated pictures and results for other programs out."""
import json
from pathlib import Path

import torch

from convnext_mm.apis.arguments import SCORE_THR
from convnext_mm.apis.config import load_config
from convnext_mm.apis.inference import Predictor, batches, find_device
from convnext_mm.apis.predict_inputs import MAPS, PICTURES, find_images, name_pictures
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
from convnext_mm.export.facts import is_exported
from convnext_mm.models.build import check_backbone
from convnext_mm.models.precision import check_precision, predict_in_bfloat16
from convnext_mm.utils.configs import is_classifier, is_segmentor
from convnext_mm.utils.errors import ArgumentValueError, describe_error
from convnext_mm.utils.files import WriteError, check_place, whole_file
from convnext_mm.utils.freed_memory import keep_freed_memory
from convnext_mm.utils.progress import Bar
from convnext_mm.utils.text import printable, shorten


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
        entry['map'] = entry['picture'].replace(PICTURES, MAPS, 1)
        write_index_map(self.folder / entry['map'], index_map, self.predictor.reduce_zero_label)

    def finish(self, info, images):
        """Write ``predictions.json``."""
        write_images(self.folder, info, images,
                     index_categories(self.predictor.names, self.predictor.reduce_zero_label))


class Classifications:
    """Collects a classifier's results for ``predictions.json``: the likeliest classes of each image, with confidences.

    Args:
        predictor (Predictor): Knows the classes.
        folder (Path): For the file.
    """

    def __init__(self, predictor, folder):
        self.names, self.folder = predictor.names, folder

    def add(self, found, entry):
        """Write the ``Classes`` found in an image into its entry."""
        entry['predictions'] = [dict(category_id=label, name=self.names[label], score=score)
                                for label, score in zip(found.labels.tolist(), found.scores.tolist())]

    def finish(self, info, images):
        """Write ``predictions.json``."""
        write_images(self.folder, info, images, index_categories(self.names, reduce_zero_label=False))


def write_images(folder, info, images, categories):
    """Write ``predictions.json`` of results that stand in the entries of the images."""
    with whole_file(folder / INDEX_FILE) as temporary:
        temporary.write_text(json.dumps(dict(info=info, images=images, categories=categories)))


def check_arguments(args, model):
    """Raise an ``ArgumentValueError`` for a number out of its range, or one that the model has no use for."""
    for name, value, low, high in (('batch-size', args.batch_size, 1, None), ('score-thr', args.score_thr, 0, 1)):
        if value is not None and not low <= value <= (high or value):
            raise ArgumentValueError(f'--{name} must be {f"from {low} to {high}" if high else f"{low} or more"}, '
                                     f'got {value}')
    if args.score_thr is not None and is_segmentor(model):
        raise ArgumentValueError('--score-thr is for detectors: a segmentor gives every pixel its likeliest class')
    if args.score_thr is not None and is_classifier(model):
        raise ArgumentValueError('--score-thr is for detectors: of a classifier, the likeliest classes are shown')


class Skipped(list):
    """The names of files that are not predicted; the reason of each is said at once.

    Args:
        bar (Bar): Shows how far the work is.
    """

    def __init__(self, bar):
        super().__init__()
        self.bar = bar

    def add(self, file, reason):
        """Say why a file is skipped, and count it."""
        self.bar.say(f'{printable(file)} is skipped: {reason}')
        self.bar.add()
        self.append(str(file))


def load_images(predictor, files, skipped):
    """Yield each file ``Loaded``; skip those that cannot be loaded."""
    for number, file in enumerate(files, 1):
        try:
            loaded = predictor.load(number, file)
        except Exception as error:  # Decoders and transforms raise nearly anything at a broken image.
            skipped.add(file, describe_error(error))
            continue
        if loaded.frames > 1:
            skipped.bar.say(f'{printable(file)} has {loaded.frames} images, of which the first is predicted')
        yield loaded


def predict_batch(predictor, batch, skipped):
    """Yield each image of a batch with its data sample; after an error one by one, without those that fail alone."""
    samples = reason = None
    try:
        samples = predictor(batch)
    except Exception as error:  # An image may be too thin for a network, or too large for the memory.
        # Keep the words alone: the error itself holds the tensors of the attempt.
        reason = describe_error(error)
    if samples is not None:
        yield from zip(batch, samples)
    elif len(batch) > 1:
        torch.cuda.empty_cache()
        for loaded in batch:
            yield from predict_batch(predictor, [loaded], skipped)
    else:
        height, width = batch[0].pixels.shape[:2]
        skipped.add(batch[0].file, f'the model fails on its {width} x {height} pixels: {reason}')


def predict_files(predictor, files, results, score_thr, batch_size):
    """Predict images, write a picture of each, and give what was found to ``results``.

    Returns:
        tuple[list[dict], list[str]]: Entries of the images for ``predictions.json``, and the names of skipped files.
    """
    names, images, bar = name_pictures(files), [], Bar(len(files), 'images')
    skipped = Skipped(bar)
    for batch in batches(load_images(predictor, files, skipped), batch_size):
        for loaded, sample in predict_batch(predictor, batch, skipped):
            height, width = loaded.pixels.shape[:2]
            entry = dict(id=loaded.number, file_name=str(loaded.file), width=width, height=height,
                         picture=f'{PICTURES}/{names[loaded.number - 1]}')
            try:
                found = read_sample(sample, score_thr)[1]
                panels = draw_panels(loaded.pixels, found, None, predictor.names, predictor.palette)
                write_picture(results.folder / entry['picture'], join_panels(panels))
                results.add(found, entry)
            except WriteError:
                raise
            except Exception as error:  # A class without a name, or a result that is no picture's.
                skipped.add(loaded.file, describe_error(error))
                continue
            images.append(entry)
            bar.add()
    return images, skipped


def main(args):
    """Predict by a command line (see `tools/predict.py`); return the exit code, 1 where images were skipped."""
    cfg = load_config(args, 'test_dataloader')
    check_arguments(args, cfg.model)
    device, folder = find_device(args.device), Path(args.out_dir)
    check_precision(args.precision, device, is_exported(args.checkpoint))
    for place in (folder, folder / PICTURES, folder / MAPS):
        check_place('--out-dir', place, is_folder=True)
    check_place('--out-dir', folder / INDEX_FILE)
    files = find_images(args.inputs, folder)
    check_backbone(cfg)
    trust_pickles(args.trust_checkpoint)
    if device.type == 'cpu':
        keep_freed_memory()
    predictor = Predictor(cfg, str(locate(args.checkpoint)), device)
    info = dict(config=args.config, weights=dict(source=args.checkpoint))
    if args.precision == 'bfloat16':
        predict_in_bfloat16(predictor.model)
        info['precision'] = args.precision
    score_thr = SCORE_THR if args.score_thr is None else args.score_thr
    kind = Segmentations if predictor.segments else Classifications if predictor.classifies else Detections
    if kind is Detections:
        info['score_thr'] = score_thr
    results = kind(predictor, folder)
    images, skipped = predict_files(predictor, files, results, score_thr, args.batch_size)
    results.finish(dict(info, skipped=skipped), images)
    print(f'{len(images)} pictures in {folder / PICTURES}, results in {folder / INDEX_FILE}', flush=True)
    if skipped:
        print(f'{len(skipped)} of {len(files)} images were skipped: {shorten(map(printable, skipped))}', flush=True)
    return bool(skipped)
