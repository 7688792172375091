"""Measure robustness: a classifier's on ImageNet's variants, a detector's or a segmentor's on corrupted images."""
import argparse
import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from convnext_mm.apis.config import load_config
from convnext_mm.checkpoint.download import locate
from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.datasets.preflight import check_data, warn
from convnext_mm.engine.settings import fit_to_device, fit_workers
from convnext_mm.evaluation import corruptions
from convnext_mm.evaluation.cells import Cell, cell_file, store_cell
from convnext_mm.evaluation.evaluators import use_own_metrics
from convnext_mm.evaluation.robustness import (
    absent_sets,
    class_indices,
    find_cells,
    format_summary,
    read_error,
    summarise,
)
from convnext_mm.models.build import check_backbone, load_model
from convnext_mm.published.robustness import published_robustness
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place, sha256, whole_file
from convnext_mm.utils.progress import Line, clock
from convnext_mm.visualization.corruptions import draw_corruptions

#: Side of the images that ImageNet-C and C-bar are stored in.
STORED = 224


class Study(NamedTuple):
    """What a model is measured on, and what is made of it.

    Attributes:
        cells (list[Cell]): What is measured, and stored, one by one.
        measure (Callable): ``measure(cfg, checkpoint)`` loads the model and returns a function of a cell and of a
            function that shows the share that is done; it returns what is stored.
        read (Callable): ``read(folder, cell, model)`` returns what follows from a stored cell, or None.
        report (Callable): ``report(results, name, out)`` of what was read of all cells: facts, ready for JSON, and
            Markdown.
    """

    cells: list[Cell]
    measure: Callable[[Any, str], Callable[[Cell, Callable], dict]]
    read: Callable[..., Any]
    report: Callable[[dict, str, Path], tuple[dict, str]]


def main(args: argparse.Namespace) -> None:
    """Measure what has not been measured yet, then write and print the figures."""
    cfg = load_config(args, 'test_dataloader', 'test_evaluator')
    out = Path(args.work_dir or Path(cfg.work_dir, 'robustness'))
    check_place('--work-dir', out, is_folder=True)
    # Nothing but the result is printed to stdout.
    with contextlib.redirect_stdout(sys.stderr):
        study = (_study_classifier if cfg.get('default_scope') == 'mmpretrain' else _study_corruptions)(cfg, args)
        fit_to_device(cfg)
    file = locate(args.checkpoint)
    name = f'{Path(file).name} (sha256 {sha256(file)[:16]}) of {args.config} ({_digest_settings(cfg)})'
    # Results of another model are found before anything is computed.
    left = [cell for cell in study.cells if study.read(out, cell, name) is None]
    with contextlib.redirect_stdout(sys.stderr):
        if left:
            trust_pickles(args.trust_checkpoint)
            _measure(study.measure(cfg, args.checkpoint), left, out, name)
        facts, text = study.report({cell: study.read(out, cell, name) for cell in study.cells}, name, out)
        for ending, content in (('json', json.dumps(dict(model=name, **facts), indent=1)), ('md', text)):
            with whole_file(out / f'robustness.{ending}') as temporary:
                temporary.write_text(f'{content}\n')
    print(f'{text}\n{out / "robustness.json"}')


def _study_classifier(cfg, args):
    """Return the study of a classifier on ImageNet's variants."""
    if args.quick:
        raise UserError('--quick is for detectors and segmentors; for a classifier, --sets chooses what is measured')
    if not args.data:
        raise UserError('--data is missing: the folder with the variants of ImageNet (see docs/robustness.md)')

    def measure(cfg, checkpoint):
        model = load_model(cfg.model, checkpoint)[0].to(get_device())
        return lambda cell, show: dict(zip(('labels', 'predicted'), predict_cell(model, cfg, cell, show)))

    def report(errors, name, out):
        summary = summarise(errors)
        text = format_summary(summary, args.reference)
        text += ''.join(f'\nnot there: {title} ({source})' for title, source in absent_sets(args.data).items())
        return dict(reference=args.reference, sets=summary), text
    return Study(find_cells(args.data, args.sets or ()), measure, read_error, report)


def _study_corruptions(cfg, args):
    """Return the study of a detector or a segmentor on its test's own images, corrupted."""
    for argument in ('data', 'sets', 'reference'):
        if getattr(args, argument):
            raise UserError(f'--{argument} is for classifiers; the images of test_dataloader are corrupted')
    corruptions.check_library()
    use_own_metrics(cfg)
    check_backbone(cfg)
    warn(check_data(cfg, ('test',)))
    check_agreement(cfg, ('test',))
    fit_workers(cfg)

    def measure(cfg, checkpoint):
        model = load_model(cfg.model, checkpoint)[0].to(get_device())
        # Evaluators tell all of each cell.
        MMLogger.get_current_instance().setLevel('WARNING')
        return lambda cell, show: dict(figures=corruptions.measure_cell(model, cfg, cell, show))

    def report(figures, name, out):
        summary = corruptions.summarise(figures)
        draw_corruptions(summary, name, out / 'robustness.png')
        return dict(figures=summary), f'{corruptions.format_summary(summary)}\n\n{out / "robustness.png"}'
    return Study(corruptions.make_cells(args.quick), measure, corruptions.read_figures, report)


def _digest_settings(cfg):
    """Return the beginning of the SHA-256 of what a config says of the model and its test, loading left out."""
    settings = [cfg.model, cfg.test_dataloader.dataset, cfg.test_evaluator]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def transforms_for(cfg, cell) -> list:
    """Return the transforms of a cell's images: those of the config's test, but for sets that are stored cropped.

    The published protocol crops these at 224. For models of another size it says nothing: they are resized.
    """
    pipeline = cfg.test_dataloader.dataset.pipeline
    if 'stored_size' not in published_robustness()['sets'][cell.dataset]:
        return pipeline
    if any(type_name(t) == 'ImageNetEvalTransform' for t in pipeline):
        # All of an image is in the crop: of one that is stored at the model's size, each pixel as it is.
        return [ConfigDict(t, crop_pct=1.) if type_name(t) == 'ImageNetEvalTransform' else t for t in pipeline]
    load, pack = pipeline[0], pipeline[-1]
    crops = [t.crop_size for t in pipeline if type_name(t) == 'CenterCrop']
    sizes = crops or [t.scale for t in pipeline if type_name(t) in ('Resize', 'ResizeEdge')]
    size = sizes[-1] if sizes else STORED
    size = size if isinstance(size, int) else size[0]
    if size == STORED:
        return [load, ConfigDict(type='CenterCrop', crop_size=STORED), pack]
    return [load, ConfigDict(type='Resize', scale=(size, size), backend='pillow', interpolation='bicubic'), pack]


def _measure(measure, cells, out, name):
    """Measure cells one after the other, and store each when it is whole."""
    line, begun = Line(sys.stderr), time.monotonic()
    for number, cell in enumerate(cells):
        def show(share, number=number, cell=cell):
            done = number + share
            rest = (time.monotonic() - begun) / done * (len(cells) - done) if done else 0
            line.show(f'{cell.name}: {share:.0%}; {number} of {len(cells)} done, {clock(rest)} left')
        store_cell(out, cell, name, measure(cell, show))
    line.end(f'{len(cells)} cells in {clock(time.monotonic() - begun)}: {cell_file(out, cells[-1]).parent}')


def predict_cell(model, cfg, cell, show=lambda share: None) -> tuple[list[int], list[int]]:
    """Return the labels and the predictions of a cell's images, as indices among ImageNet's classes.

    Only classes that the set has can be predicted.

    Args:
        model (nn.Module): mmpretrain's classifier.
        cfg (mmengine.Config): Of the model; its test's loader and transforms are used.
        cell (Cell): The images.
        show (Callable): Called with the share that is done.
    """
    indices = torch.tensor(class_indices(cell.dataset))
    dataset = DATASETS.build(dict(type='CustomDataset', data_root=str(cell.folder), pipeline=transforms_for(cfg, cell)))
    loader = Runner.build_dataloader(dict(
        dataset=dataset, batch_size=cfg.test_dataloader.batch_size, num_workers=cfg.test_dataloader.num_workers,
        collate_fn=dict(type='default_collate'), sampler=dict(type='DefaultSampler', shuffle=False)))
    labels, predicted = [], []
    for batch in loader:
        with torch.no_grad():
            found = model.test_step(batch)
        scores = torch.stack([sample.pred_score.cpu() for sample in found])
        if scores.shape[1] <= max(indices):
            raise UserError(f'the model tells {scores.shape[1]} classes; expected the {len(indices)} of {cell.dataset} '
                            "among ImageNet-1K's 1000")
        predicted += indices[scores[:, indices].argmax(1)].tolist()
        labels += [int(indices[int(sample.gt_label)]) for sample in found]
        show(len(labels) / len(dataset))
    return labels, predicted
