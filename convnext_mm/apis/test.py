"""Test a detector, a segmentor or a classifier."""
import argparse

from mmengine.device import get_device
from mmengine.dist import is_main_process

from convnext_mm.apis.config import load_config
from convnext_mm.checkpoint.download import locate, resolve
from convnext_mm.checkpoint.files import trust_pickles
from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.datasets.preflight import check_data, warn
from convnext_mm.engine.runner.build import build_runner
from convnext_mm.engine.settings import fit_to_device, fit_workers, set_show_dir, set_tta
from convnext_mm.engine.strategy_choice import drop_strategy
from convnext_mm.evaluation.evaluators import check_out, set_out, shows_classes, use_own_metrics
from convnext_mm.evaluation.run_facts import describe_run
from convnext_mm.evaluation.scores import check_reference, find_reference, make_scores, show_scores
from convnext_mm.evaluation.tested_hook import TestedImagesHook
from convnext_mm.export.exported import use_exported
from convnext_mm.export.facts import is_exported
from convnext_mm.models.build import check_backbone
from convnext_mm.models.packing import pack_weights
from convnext_mm.models.precision import check_precision, predict_in_bfloat16
from convnext_mm.utils.building import mistakes_named
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place


def _check_how(args, exported):
    """Raise a ``UserError`` for a way of testing that is not possible here, or not for another runtime's file."""
    if exported and args.tta:
        raise UserError('--tta is for checkpoints: an exported file tests as it was exported')
    check_precision(args.precision, get_device(), exported)


def _make_runner(cfg, args):
    """Return a runner whose model predicts as the command line says."""
    runner = build_runner(cfg, args.trust_checkpoint)
    pack_weights(runner.model)
    if args.precision == 'bfloat16':
        predict_in_bfloat16(runner.model)
    return runner


def main(args: argparse.Namespace) -> None:
    """Test a checkpoint by a command line (see `tools/test.py`)."""
    cfg = load_config(args, 'test_dataloader', 'test_evaluator', 'test_cfg')
    reference = find_reference(args.reference, cfg.filename)
    check_reference(reference, cfg)
    check_place('--work-dir', cfg.work_dir, is_folder=True)
    resolve(args.checkpoint)  # Finds a wrong name at once; the download waits until the data has been checked.
    exported = is_exported(args.checkpoint)
    _check_how(args, exported)
    if args.show_dir:
        set_show_dir(cfg, args.show_dir)
    own, with_classes = use_own_metrics(cfg), shows_classes(cfg)
    if args.out:
        check_out(cfg, own, args.out)
    check_backbone(cfg)
    told = check_data(cfg, ('test',))
    check_agreement(cfg, ('test',))
    if args.tta:
        set_tta(cfg)
    path = str(locate(args.checkpoint))
    trust_pickles(args.trust_checkpoint)
    run = describe_run(args.config, args.checkpoint, path, args.tta, exported, args.precision)
    if exported:
        use_exported(cfg, path)
    cfg.load_from = None if exported else path
    if args.out:
        set_out(cfg, own, args.out, run)
    drop_strategy(cfg)
    fit_workers(cfg)
    fit_to_device(cfg)
    runner, hook = _make_runner(cfg, args), TestedImagesHook()
    runner.register_hook(hook)
    warn(told, runner.logger)
    with hook.naming_images(), mistakes_named():
        figures = runner.test()
    if is_main_process():
        scores = make_scores(run, hook.tested, figures, runner.test_loop.evaluator.metrics, reference)
        show_scores(scores, cfg.work_dir, with_classes)
