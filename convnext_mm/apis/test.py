"""Test a detector or a segmentor."""
import hashlib

from mmengine.dist import is_main_process

from convnext_mm.apis.config import load_config
from convnext_mm.checkpoint.download import locate, resolve
from convnext_mm.checkpoint.files import read, trust_pickles
from convnext_mm.datasets.preflight import check_data
from convnext_mm.engine.runner.build import build_runner
from convnext_mm.engine.settings import fit_to_device, set_show_dir, set_tta
from convnext_mm.engine.strategy_choice import drop_strategy
from convnext_mm.evaluation.predictions import PICKLES, check_file, check_folder
from convnext_mm.evaluation.scores import check_reference, find_reference, make_report, show_report
from convnext_mm.evaluation.stored import shows_classes, use_own_metrics
from convnext_mm.models.build import check_backbone
from convnext_mm.published.weights import of_file
from convnext_mm.utils.configs import is_segmentor
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place


def describe_run(config, source, path, multi_scale):
    """What is run, ready for JSON.

    Args:
        config (str): The config's path as given.
        source (str): The checkpoint as given: a path, an address or a short name.
        path (str): The checkpoint's file.
        multi_scale (bool): With test-time augmentation.
    """
    known, meta = of_file(path), read(path).get('meta')
    weights = dict(source=source)
    if known:
        weights['published_as'] = known.name
    # Of a training of mmengine's; official files have no such record.
    meta = meta if isinstance(meta, dict) else {}
    weights.update((key, meta[key]) for key in ('epoch', 'iter', 'time') if isinstance(meta.get(key), (int, str)))
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    weights['sha256'] = digest.hexdigest()
    return dict(config=str(config), protocol='multi-scale' if multi_scale else 'single-scale', weights=weights)


def check_out(cfg, own, out):
    """Make sure, before anything is built, that ``--out`` can be written.

    Args:
        cfg (Config): Of the test.
        own (list): What :func:`use_own_metrics` returned.
        out (str): A file for a detector, a folder for a segmentor (``predictions.py``).

    Raises:
        UserError: It cannot, or the config has no evaluator that stores predictions.
    """
    (check_folder if is_segmentor(cfg.model) else check_file)('--out', out)
    if not own and not out.endswith(PICKLES):
        raise UserError(f'--out {out!r} needs a CocoMetric (with ann_file, for bbox or segm) or an IoUMetric as '
                        'test_evaluator, the config has none')


def set_out(cfg, own, out, info):
    """Store predictions in ``out``, with ``info`` about what is run; arguments otherwise as in :func:`check_out`."""
    if out.endswith(PICKLES):
        cfg.test_evaluator = [*cfg.test_evaluator, dict(type='DumpDetResults', out_file_path=out)]
    else:
        own[0].update(out=out, info=info)


def main(args):
    """Test a checkpoint by a command line (see `tools/test.py`)."""
    cfg = load_config(args, 'test_dataloader', 'test_evaluator', 'test_cfg')
    reference = find_reference(args.reference, args.config)
    check_reference(reference, cfg)
    check_place('--work-dir', cfg.work_dir)
    # A wrong name is told at once; what has to be fetched waits until the data is known to be there.
    resolve(args.checkpoint)
    if args.show_dir:
        set_show_dir(cfg, args.show_dir)
    own, with_classes = use_own_metrics(cfg), shows_classes(cfg)
    if args.out:
        check_out(cfg, own, args.out)
    check_backbone(cfg)
    check_data(cfg, ('test',))
    if args.tta:
        set_tta(cfg)
    cfg.load_from = str(locate(args.checkpoint))
    trust_pickles(args.trust_checkpoint)
    run = describe_run(args.config, args.checkpoint, cfg.load_from, args.tta)
    if args.out:
        set_out(cfg, own, args.out, run)
    drop_strategy(cfg)
    fit_to_device(cfg)
    runner = build_runner(cfg, args.trust_checkpoint)
    figures = runner.test()
    if is_main_process():
        report = make_report(run, len(runner.test_dataloader.dataset), figures,
                             runner.test_loop.evaluator.metrics, reference)
        show_report(report, cfg.work_dir, with_classes)
