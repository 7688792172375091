"""Export a segmentor, a detector, or any backbone, to the format of another runtime."""
import argparse
from pathlib import Path

from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS

from convnext_mm.apis.config import load_config
from convnext_mm.apis.inference import build_dataset
from convnext_mm.checkpoint.download import locate, resolve
from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.checkpoint.mmengine_loader import load_checkpoint, register_loader
from convnext_mm.export.calibration import read_calibration
from convnext_mm.export.check import format_check
from convnext_mm.export.export import COMPANIONS, backbone, detector, export, segmentor
from convnext_mm.export.facts import describe
from convnext_mm.export.formats import find_format
from convnext_mm.export.quantise import format_tried, quantise
from convnext_mm.models.build import check_backbone
from convnext_mm.utils.configs import is_segmentor, type_name, walk
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place, whole_file


def check_arguments(args: argparse.Namespace, model: dict) -> None:
    """Refuse what cannot be written, or what a model has no use for, before anything is built.

    Raises:
        UserError: Naming the argument.
    """
    out = Path(args.out)
    files = [out, out.with_suffix(COMPANIONS.get(out.suffix, out.suffix)), check_file(out)]
    there = [file for file in files if file.exists()]
    if there and not args.force:
        raise UserError(f'OUT {str(there[0])!r} is there already; give another name, or --force to replace it')
    check_place('OUT', out)
    if args.logits and (args.part == 'backbone' or not is_segmentor(model)):
        raise UserError('--logits is for whole segmentors')
    if args.part == 'whole' and not is_segmentor(model) and not {'roi_head', 'bbox_head'} & set(model):
        raise UserError(f'model.type={type_name(model)} cannot be exported: it has neither a decode_head, nor a '
                        'roi_head or bbox_head; --part backbone exports its backbone alone')
    if args.int8 and (args.part == 'backbone' or out.suffix != '.onnx'):
        raise UserError('--int8 is for whole models in .onnx')
    if args.nms and (args.part == 'backbone' or is_segmentor(model)):
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


def main(args: argparse.Namespace) -> None:
    """Export by a command line (see `tools/export.py`)."""
    cfg, form, out = load_config(args), find_format(args.out), Path(args.out)
    check_arguments(args, cfg.model)
    if args.nms:
        suppress_hard(cfg.model)
    resolve(args.checkpoint)
    check_backbone(cfg)
    trust_pickles(args.trust_checkpoint)
    register_loader()
    whole = args.part == 'whole'
    model = revert_sync_batchnorm(MODELS.build(cfg.model if whole else cfg.model.backbone)).eval()
    meta = load_checkpoint(model, str(locate(args.checkpoint))).get('meta') or {}
    if not whole:
        subject = backbone(model)
    else:
        subject = segmentor(model, args.logits) if is_segmentor(model) else detector(model)
    facts = describe(cfg, args.part, config=args.config, checkpoint=args.checkpoint, outputs=subject.written,
                     classes=(meta.get('dataset_meta') or {}).get('classes'))
    print(f'exporting {subject.name} to {out}, to be checked before it is written', flush=True)
    # Before the export, which takes minutes.
    inputs = read_calibration(cfg, args.images, build_dataset(cfg).pipeline.transforms) if args.int8 else []
    tried: list = []
    rows = export(subject, form, out, facts, [Path(name) for name in args.images], lambda path: tried.extend(
        quantise(path, inputs, is_segmentor(cfg.model)) if inputs else ()))
    table = '\n'.join(filter(None, (format_check(subject.columns, rows), subject.remark())))
    if tried:
        table = f'{table}\n\nThen in int8:\n{format_tried(tried, is_segmentor(cfg.model))}'
    versions = ', '.join(f'{name} {version}' for name, version in form.versions().items())
    with whole_file(check_file(out)) as temporary:
        temporary.write_text(f'{out.name} and PyTorch, run on the same images ({versions}):\n\n{table}\n\n'
                             f'Config {args.config}, checkpoint {args.checkpoint}:\n\n{cfg.pretty_text}', 'utf-8')
    print(f'{table}\n{out} agrees with PyTorch ({versions}); the table is in {check_file(out)}', flush=True)
