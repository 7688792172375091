"""Try parts of an installation: ``doctor`` runs each probe in a process of its own, by its name.

A probe returns what is worth knowing, if anything, and raises the error of whatever does not work.
"""
import importlib
import shutil
import subprocess
import sys
import tempfile


def devices():
    """Return the kinds of devices that torch computes on."""
    import torch
    return ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]


def torch():
    """Multiply matrices on every kind of device; NumPy in and out."""
    import numpy as np
    import torch
    listed = shutil.which('nvidia-smi') and subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True).stdout
    if listed and torch.version.cuda is None and torch.version.hip is None:
        raise RuntimeError('torch was built without CUDA')
    if listed and not torch.cuda.is_available():
        torch.zeros(1, device='cuda')
    for device in devices():
        ones = torch.from_numpy(np.ones((8, 8), np.float32)).to(device)
        assert (ones @ ones).cpu().numpy().sum() == 512
    return f'CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}' if 'cuda' in devices() else 'no GPU is used'


def torchvision():
    """Call an operator of torchvision."""
    import torch
    from torchvision.ops import nms
    for device in devices():
        boxes = torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8]], device=device)
        assert len(nms(boxes, torch.tensor([1., .5], device=device), .5)) == 1


def mmcv():
    """Call operators of mmcv."""
    import torch
    from mmcv.ops import nms, roi_align
    for device in devices():
        boxes = torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8]], device=device)
        assert len(nms(boxes, torch.tensor([1., .5], device=device), .5)[0]) == 1
        features = torch.ones(1, 1, 8, 8, device=device)
        assert roi_align(features, torch.tensor([[0., 0, 0, 4, 4]], device=device), 2).sum() == 4


def toolboxes():
    """Import the models of every toolbox that is there."""
    for name in ('mmdet', 'mmseg', 'mmpretrain'):
        if importlib.util.find_spec(name):
            importlib.import_module(f'{name}.models')


def registry():
    """Resolve the backbone from every scope, and return the scopes."""
    from convnext_mm import ConvNeXt
    scopes = [name for name in ('mmengine', 'mmdet', 'mmseg', 'mmpretrain') if importlib.util.find_spec(name)]
    for name in scopes:
        models = importlib.import_module(f'{name}.registry').MODELS
        if models.get('convnext_mm.ConvNeXt') is not ConvNeXt:
            raise LookupError(f'convnext_mm.ConvNeXt does not resolve from the scope {name}')
    return ', '.join(scopes)


def backbone():
    """Train a small backbone with layer decay for two steps."""
    import torch
    from mmengine.optim import build_optim_wrapper

    from convnext_mm import ConvNeXt
    model = ConvNeXt(dict(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32)), layer_scale_init_value=1.).to(devices()[-1])
    wrapper = build_optim_wrapper(model, dict(
        optimizer=dict(type='AdamW', lr=1e-3), constructor='convnext_mm.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(decay_rate=.9)))
    images = torch.randn(2, 3, 64, 64, device=devices()[-1])
    losses = []
    for _ in range(2):
        loss = sum((output - 1).square().mean() for output in model(images))
        wrapper.update_params(loss)
        losses.append(loss.item())
    if not losses[1] < losses[0]:
        raise ArithmeticError(f'the loss does not fall: {losses[0]}, then {losses[1]}')


def train_demo(config, kind, steps, images=(2, 1)):
    """Train a demo config by the command on drawn shapes (``kind`` is coco, ade or classes), ``steps`` overriding it;
    ``images`` are those of the training and of the validation."""
    from convnext_mm.datasets import shapes
    with tempfile.TemporaryDirectory() as folder:
        getattr(shapes, f'generate_{kind}')(f'{folder}/data', *images, width=96, height=96)
        options = [f'{split}_dataloader.dataset.data_root={folder}/data/{part if kind == "classes" else ""}'
                   for split, part in (('train', 'train'), ('val', 'val'), ('test', 'val'))]
        options += ['train_dataloader.batch_size=1', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
                    'train_dataloader.persistent_workers=False', 'val_dataloader.persistent_workers=False', *steps]
        if kind == 'coco':
            options.append(f'val_evaluator.ann_file={folder}/data/annotations/instances_val2017.json')
        command = [sys.executable, '-m', 'convnext_mm', 'train', f'convnext_mm::demo/{config}']
        result = subprocess.run([*command, '--work-dir', f'{folder}/work', '--cfg-options', *options],
                                capture_output=True, text=True, cwd=folder)
    if result.returncode:
        sys.exit(f'{result.stderr}\nconvnext-mm train convnext_mm::demo/{config} ended with exit code '
                 f'{result.returncode}: {result.stderr.strip().splitlines()[-1]}')


def detector():
    """Train a detector for two steps."""
    train_demo('cascade.py', 'coco', ['train_cfg.max_epochs=1', 'train_cfg.val_interval=9'])


def segmentor():
    """Train a segmentor for two steps."""
    # BatchNorm in the pooling pyramid wants two images.
    train_demo('upernet.py', 'ade',
               ['train_dataloader.batch_size=2', 'train_cfg.max_iters=2', 'train_cfg.val_interval=9'])


def classifier():
    """Train a classifier for two steps."""
    train_demo('classifier.py', 'classes', ['train_dataloader.batch_size=6', 'train_cfg.max_epochs=1'], (12, 6))


if __name__ == '__main__':
    # Below an empty line, as packages may have greeted before.
    print(f'\n\n{globals()[sys.argv[1]]() or ""}')
