"""Export a segmentor, a detector, a classifier, or any backbone, to the format of another runtime."""
import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from convnext_mm.apis.config import load_config
from convnext_mm.apis.inference import build_dataset
from convnext_mm.checkpoint.download import resolve
from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.export.calibration import read_calibration
from convnext_mm.export.check import format_check
from convnext_mm.export.export import Subject, backbone, classifier, detector, export, segmentor
from convnext_mm.export.facts import describe
from convnext_mm.export.formats import files_of, find_format
from convnext_mm.export.half import halve
from convnext_mm.export.kept import Tried, counted, format_tried
from convnext_mm.export.quantise import quantise
from convnext_mm.models.build import check_backbone, load_model
from convnext_mm.utils.configs import is_classifier, is_segmentor, type_name, walk
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place, whole_file


def check_arguments(args: argparse.Namespace, model: dict) -> None:
    """Refuse what cannot be written, or what a model has no use for, before anything is built.

    Raises:
        UserError: Naming the argument.
    """
    out = Path(args.out)
    files = [*files_of(out), check_file(out)]
    there = [file for file in files if file.exists()]
    if there and not args.force:
        raise UserError(f'OUT {str(there[0])!r} is there already; give another name, or --force to replace it')
    check_place('OUT', out)
    detects = bool({'roi_head', 'bbox_head'} & set(model))
    if args.logits and (args.part == 'backbone' or detects):
        raise UserError('--logits is for whole segmentors and classifiers')
    if args.part == 'whole' and not is_segmentor(model) and not is_classifier(model) and not detects:
        raise UserError(f'model.type={type_name(model)} cannot be exported: it is no classifier, and has neither a '
                        'decode_head, nor a roi_head or bbox_head; --part backbone exports its backbone alone')
    if args.int8 and (args.part == 'backbone' or out.suffix != '.onnx'):
        raise UserError('--int8 is for whole models in .onnx')
    if args.int8 and is_classifier(model):
        raise UserError('--int8 is for segmentors and detectors: what is lost of a classifier is not measured')
    if args.half and args.int8:
        raise UserError('--half is for files in float: --int8 stores weights in 8 bits; take one of the two')
    if args.half and out.suffix == '.pt2':
        raise UserError('--half is for .onnx and .xml: runtimes of these make weights float32 again once, when they '
                        'open the file, torch.export in every run')
    if args.nms and (args.part == 'backbone' or not detects):
        raise UserError('--nms is for whole detectors')
    missing = [name for name in args.images if not Path(name).is_file()]
    if missing:
        raise UserError(f'--images: {missing[0]!r} is no file')


def check_file(out: Path) -> Path:
    """Return the file beside an exported one that tells how it was checked."""
    return out.with_name(f'{out.name}.txt')


def suppress_hard(model: dict) -> None:
    """Have a detector's test suppress overlapping boxes by plain NMS, at the thresholds that its config has."""
    for _, settings in walk(model.get('test_cfg') or {}):
        if isinstance(settings.get('nms'), dict):
            settings['nms'] = dict(type='nms', iou_threshold=settings['nms'].get('iou_threshold', .5))


def make_subject(model: Any, args: argparse.Namespace) -> Subject:
    """Return a whole model as it is exported."""
    if is_classifier(model):
        return classifier(model, args.logits)
    return segmentor(model, args.logits) if is_segmentor(model) else detector(model)


def make_shrink(args: argparse.Namespace, cfg: Any, subject: Subject) -> Callable[[Path], Sequence[Tried]]:
    """Return what makes a checked file smaller, and tells what it tried; its images are read here, before the export.

    Raises:
        UserError: There are no images to calibrate int8 by.
    """
    what = counted(subject.written)
    if args.int8:
        inputs = read_calibration(cfg, args.images, build_dataset(cfg).pipeline.transforms)
        return lambda path: quantise(path, inputs, what)
    if args.half:
        cases = [(images.numpy(), *((case.size,) if subject.resizes else ())) for case, images in
                 subject.inputs([*map(Path, args.images)])]
        return lambda path: halve(path, cases, what)
    return lambda path: ()


def main(args: argparse.Namespace) -> None:
    """Export by a command line (see `tools/export.py`)."""
    # Images are calibrated after the steps of the test.
    cfg = load_config(args, *(['test_dataloader'] if args.int8 else []))
    form, out = find_format(args.out), Path(args.out)
    check_arguments(args, cfg.model)
    if args.nms:
        suppress_hard(cfg.model)
    resolve(args.checkpoint)
    check_backbone(cfg)
    trust_pickles(args.trust_checkpoint)
    whole = args.part == 'whole'
    model, classes = load_model(cfg.model if whole else cfg.model.get('backbone'), args.checkpoint)
    subject = make_subject(model, args) if whole else backbone(model)
    facts = describe(cfg, args.part, config=args.config, checkpoint=args.checkpoint, outputs=subject.written,
                     classes=classes)
    print(f'exporting {subject.name} to {out}, to be checked before it is written', flush=True)
    shrink, tried = make_shrink(args, cfg, subject), list[Tried]()
    rows = export(subject, form, out, facts, [*map(Path, args.images)], lambda path: tried.extend(shrink(path)))
    table = '\n'.join(filter(None, (format_check(subject.columns, rows), subject.remark())))
    if tried:
        table = f'{table}\n\nThen smaller:\n{format_tried(tried, counted(subject.written))}'
    versions = ', '.join(f'{name} {version}' for name, version in form.versions().items())
    with whole_file(check_file(out)) as temporary:
        temporary.write_text(f'{out.name} and PyTorch, run on the same images ({versions}):\n\n{table}\n\n'
                             f'Config {args.config}, checkpoint {args.checkpoint}:\n\n{cfg.pretty_text}', 'utf-8')
    print(f'{table}\n{out} agrees with PyTorch ({versions}); the table is in {check_file(out)}', flush=True)
