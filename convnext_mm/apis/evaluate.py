"""Evaluate stored predictions, without the model."""
import argparse

from convnext_mm.apis.config import load_config
from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.datasets.preflight import check_data, warn
from convnext_mm.evaluation.evaluators import shows_classes
from convnext_mm.evaluation.scores import check_reference, find_reference, show_scores
from convnext_mm.evaluation.stored import evaluate_stored
from convnext_mm.utils.files import check_place


def main(args: argparse.Namespace) -> None:
    """Evaluate stored predictions by a command line (see `tools/evaluate.py`)."""
    cfg = load_config(args, 'test_dataloader', 'test_evaluator')
    reference = find_reference(args.reference, cfg.filename)
    check_reference(reference, cfg)
    check_place('--work-dir', cfg.work_dir, is_folder=True)
    warn(check_data(cfg, ('test',)))
    check_agreement(cfg, ('test',))
    scores = evaluate_stored(cfg, args.config, args.predictions, reference)
    show_scores(scores, cfg.work_dir, shows_classes(cfg))
