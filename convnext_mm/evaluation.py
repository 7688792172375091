"""What `tools/test.py` and `tools/evaluate.py` do: figures of a model, or of its stored predictions."""
import hashlib
import os
from importlib import import_module

from mmengine.dist import is_main_process
from mmengine.registry import DATASETS, METRICS

from convnext_mm.checkpoint.download import locate, resolve
from convnext_mm.checkpoint.files import read, trust_pickles
from convnext_mm.datasets.preflight import check_data
from convnext_mm.figures import check_reference, find_reference, make_report, show_report
from convnext_mm.launch import build_runner, fit_to_device, load_config, set_show_dir, set_tta, test_dataset
from convnext_mm.models.build import check_backbone
from convnext_mm.predictions import PICKLES, check_file, check_folder, read_predictions
from convnext_mm.published.weights import of_file
from convnext_mm.strategy_choice import drop_strategy
from convnext_mm.utils.configs import type_name
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import check_place

#: Evaluators of mm's with these settings alone become this package's: type -> (module, settings).
OWN_METRICS = {
    'CocoMetric': ('coco_metric', {'ann_file', 'metric', 'classwise', 'backend_args', 'collect_device', 'prefix'}),
    'IoUMetric': ('iou_metric', {'iou_metrics', 'ignore_index', 'nan_to_num', 'beta', 'collect_device', 'prefix'})}


def add_arguments(parser):
    """Arguments that testing and evaluating share."""
    parser.add_argument('--reference', default='auto', metavar='auto|NAME|none',
                        help='published figures to compare with: those of the config (the default), those of another '
                             'one such as cascade/convnext_t_3x, or none')


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


def use_own_metrics(cfg):
    """Put this package's metrics in the place of mm's ``CocoMetric`` and ``IoUMetric``; return their settings.

    Others stay, and so do these with settings that change what their figures mean.
    """
    evaluators = [cfg.test_evaluator] if isinstance(cfg.test_evaluator, dict) else list(cfg.test_evaluator)
    own = []
    for evaluator in evaluators:
        module, settings = OWN_METRICS.get(type_name(evaluator), (None, ()))
        if module is None or not evaluator.keys() <= {'type', *settings}:
            continue
        kinds = evaluator.get('metric', 'bbox')
        kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        if module == 'coco_metric' and not (evaluator.get('ann_file') and kinds <= {'bbox', 'segm'}):
            continue
        # Registered here, so that only the toolbox that is needed is imported.
        import_module(f'.{module}', __package__)
        evaluator.type = f'convnext_mm.{type_name(evaluator)}'
        if module == 'iou_metric':
            dataset = test_dataset(cfg)
            evaluator.image_folder = os.path.join(dataset.get('data_root') or '',
                                                  (dataset.get('data_prefix') or {}).get('img_path', ''))
        own.append(evaluator)
    cfg.test_evaluator = evaluators
    return own


def check_out(cfg, own, out):
    """Make sure, before anything is built, that ``--out`` can be written.

    Args:
        cfg (Config): Of the test.
        own (list): What :func:`use_own_metrics` returned.
        out (str): A file for a detector, a folder for a segmentor (``predictions.py``).

    Raises:
        UserError: It cannot, or the config has no evaluator that stores predictions.
    """
    (check_folder if 'decode_head' in cfg.model else check_file)('--out', out)
    if not own and not out.endswith(PICKLES):
        raise UserError(f'--out {out!r} needs a CocoMetric (with ann_file, for bbox or segm) or an IoUMetric as '
                        'test_evaluator, the config has none')


def set_out(cfg, own, out, info):
    """Store predictions in ``out``, with ``info`` about what is run; arguments otherwise as in :func:`check_out`."""
    if out.endswith(PICKLES):
        cfg.test_evaluator = [*cfg.test_evaluator, dict(type='DumpDetResults', out_file_path=out)]
    else:
        own[0].update(out=out, info=info)


def shows_classes(cfg):
    """Whether the table of classes belongs on the terminal: as in mm, a segmentor's always, others' if classwise."""
    return 'decode_head' in cfg.model or any(evaluator.get('classwise') for evaluator in cfg.test_evaluator)


def evaluate_stored(cfg, config, path, reference):
    """The report of stored predictions.

    Args:
        cfg (Config): Says the data set and the evaluators.
        config (str): Its path as given.
        path (str): What ``tools/test.py --out`` stored.
        reference (Reference): To compare with.

    Raises:
        UserError: They cannot be read, or are not of the config's data set.
    """
    own = use_own_metrics(cfg)
    if not own:
        raise UserError('stored predictions are evaluated by a CocoMetric (with ann_file, for bbox or segm) or an '
                        f'IoUMetric as test_evaluator, {config} has none')
    predictions = read_predictions(path)
    if (predictions.annotations is None) != (type_name(own[0]) == 'IoUMetric'):
        raise UserError(f"predictions {str(path)!r} are of another task than {config}: a detector's are a .json file, "
                        "a segmentor's a folder of index PNGs")
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    metrics, figures = [METRICS.build(evaluator) for evaluator in own], {}
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
        figures.update(metric.evaluate_stored(dataset, predictions, path))
    run = {'protocol': 'single-scale', 'weights': None, **predictions.info, 'config': str(config)}
    return make_report(run, len(dataset), figures, metrics, reference)


def evaluate(args):
    """Evaluate stored predictions by a command line (see `tools/evaluate.py`)."""
    cfg = load_config(args, 'test_dataloader', 'test_evaluator')
    reference = find_reference(args.reference, args.config)
    check_reference(reference, cfg)
    check_place('--work-dir', cfg.work_dir)
    check_data(cfg, ('test',))
    report = evaluate_stored(cfg, args.config, args.predictions, reference)
    show_report(report, cfg.work_dir, shows_classes(cfg))


def test(args):
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
