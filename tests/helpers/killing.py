"""Train the demo's models, kill the runs at chosen moments and resume them; for test_resume.py."""
import contextlib
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import torch

from tests.helpers.paths import ROOT

#: Settings that make a config of ImageNet a small one of drawn shapes.
SHAPES = ['model.backbone.arch=atto', 'model.neck.in_channels=320', 'model.head.in_channels=320',
          'model.head.num_classes=3', 'model.data_preprocessor.num_classes=3', 'val_evaluator.topk=(1,)',
          *(f'{split}_dataloader.dataset.{setting}' for split in ('train', 'val') for setting in (
              'data_root=data/shapes/classes', 'metainfo.classes=(circle,square,triangle)', 'pipeline.0.size=32'))]
#: Config, what one iteration is, and settings that make it small.
MODELS = {
    'detection': ('configs/demo/cascade.py', [
        'train_dataloader.batch_size=2', 'train_cfg.max_epochs={epochs}', 'train_cfg.val_interval=2',
        'model.roi_head.mask_head.num_convs=1', 'model.rpn_head.feat_channels=16',
        'default_hooks.checkpoint.by_epoch=False']),
    'segmentation': ('configs/demo/upernet.py', [
        'train_dataloader.batch_size=2', 'train_cfg.max_iters={iterations}', 'train_cfg.val_interval=6']),
    # Mixed, and with averaged weights.
    'classification': ('configs/imagenet/convnext_t_in1k.py', [
        'train_dataloader.batch_size=2', 'train_cfg.max_epochs={epochs}', 'train_cfg.val_interval=2',
        'param_scheduler.0.end=1', 'param_scheduler.1.begin=1', 'param_scheduler.1.end={epochs}',
        'custom_hooks.1.momentum=0.1', 'default_hooks.checkpoint.by_epoch=False', *SHAPES])}
COMMON = ['default_hooks.checkpoint.interval=3', 'default_hooks.checkpoint.max_keep_ckpts=1',
          'default_hooks.logger.interval=1', 'train_dataloader.num_workers={workers}',
          'train_dataloader.persistent_workers={persistent}', 'val_dataloader.num_workers=0',
          'val_dataloader.persistent_workers=False', 'model.backbone.drop_path_rate=0.2']
#: Images in the data sets, and optimizer steps in an epoch of the detector.
IMAGES, STEPS = 8, 4


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def killed_at(moment):
    """Kill this process at a moment: (what, how often it happens before)."""
    from unittest import mock

    from mmengine.runner import ValLoop

    from convnext_mm.engine.hooks import checkpoint
    from convnext_mm.engine.runner import step_guard
    from convnext_mm.utils.files import whole_file
    what, count = moment or ('never', 0)

    def countdown(action, function):
        left = [count]

        def counted(*args, **kwargs):
            if left[0] == 0:
                action(*args)
            left[0] -= 1
            return function(*args, **kwargs)
        return counted

    def half_write(backend, content, path):
        # A kill leaves the temporary file behind.
        with whole_file(path) as temporary:
            temporary.write_bytes(content[:len(content) // 2])
            kill()

    guard, backend, removal = step_guard.StepGuard, checkpoint.AtomicBackend, checkpoint._LateRemoval
    patch = mock.patch.object
    with {'never': contextlib.nullcontext,
          'step': lambda: patch(guard, 'stop_if_needed', countdown(lambda *_: kill(), guard.stop_if_needed)),
          'write': lambda: patch(backend, 'put', countdown(half_write, backend.put)),
          'validation': lambda: patch(ValLoop, 'run_iter', countdown(lambda *_: kill(), ValLoop.run_iter)),
          'removal': lambda: patch(removal, 'flush', countdown(lambda *_: kill(), removal.flush)),
          }[what]():
        yield


def _train(model, folder, work_dir, iterations, workers, moment, extra):
    # The workers of data loaders outlive a killed process. A group of its own lets `train` kill them.
    os.setsid()
    torch.set_num_threads(1)
    os.chdir(folder)
    config, options = MODELS[model]
    options = [option.format(epochs=iterations // STEPS, iterations=iterations, workers=workers,
                             persistent=workers > 0) for option in [*options, *COMMON]]
    sys.argv = ['train.py', str(ROOT / config), '--work-dir', work_dir, '--deterministic', *extra, '--cfg-options',
                *options]
    with open(os.path.join(folder, f'{work_dir}.log'), 'a') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    from convnext_mm.apis.cli import main
    with killed_at(moment):
        code = main('train')
    sys.stdout.flush()
    os._exit(code)


def _context():
    context = multiprocessing.get_context('forkserver')
    # Imported once; each run is a fork.
    context.set_forkserver_preload(['mmdet.models', 'mmdet.datasets', 'mmseg.models', 'mmseg.datasets',
                                    'mmpretrain.models', 'mmpretrain.datasets', 'mmpretrain.evaluation', 'timm.data',
                                    'convnext_mm.engine.settings', 'convnext_mm.engine.runner.loops',
                                    'tests.helpers.killing'])
    return context


def train(model, folder, work_dir, iterations, workers=0, moment=None, extra=()):
    """Train in a new process, and return its exit code: -9 if it was killed."""
    process = _context().Process(target=_train, args=(model, str(folder), work_dir, iterations, workers, moment, extra))
    process.start()
    process.join()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.exitcode


def make_data(folder):
    from convnext_mm.datasets import shapes
    shapes.generate_coco(Path(folder) / 'data/shapes/coco', train=IMAGES, val=2, width=96, height=80)
    shapes.generate_ade(Path(folder) / 'data/shapes/ade', train=IMAGES, val=2, width=96, height=80)
    shapes.generate_classes(Path(folder) / 'data/shapes/classes', train=IMAGES, val=6)


def losses(work_dir):
    """Return {step: list of {name: value}} of all that a run and its resumed parts logged."""
    found = {}
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if 'loss' in record:
                kept = {k: v for k, v in record.items() if k not in ('time', 'data_time', 'memory')}
                found.setdefault(record['step'], []).append(kept)
    return found


def state(work_dir):
    """Return {path: value} of the weights, their average and the optimizer's state in the last checkpoint."""
    from convnext_mm.checkpoint.files import read
    content = read((Path(work_dir) / 'last_checkpoint').read_text().strip())
    return dict(_flatten({key: content.get(key) for key in ('state_dict', 'ema_state_dict', 'optimizer')}))


def _flatten(node, path=()):
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else None
    if items is None:
        yield path, node
    for key, value in items or ():
        yield from _flatten(value, (*path, key))
