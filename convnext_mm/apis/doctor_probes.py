"""Trials of an installation, each run by ``doctor.py`` in a process of its own: ``python doctor_probes.py NAME``.

A probe returns what is worth to know, if anything, and raises the error of whatever does not work.
"""
import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def devices():
    import torch
    return ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]


def torch():
    """A product of matrices wherever there is a device; NumPy in and out."""
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
    import torch
    from torchvision.ops import nms
    for device in devices():
        boxes = torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8]], device=device)
        assert len(nms(boxes, torch.tensor([1., .5], device=device), .5)) == 1


def mmcv():
    import torch
    from mmcv.ops import nms, roi_align
    for device in devices():
        boxes = torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8]], device=device)
        assert len(nms(boxes, torch.tensor([1., .5], device=device), .5)[0]) == 1
        features = torch.ones(1, 1, 8, 8, device=device)
        assert roi_align(features, torch.tensor([[0., 0, 0, 4, 4]], device=device), 2).sum() == 4


def toolboxes():
    for name in ('mmdet', 'mmseg', 'mmpretrain'):
        if importlib.util.find_spec(name):
            importlib.import_module(f'{name}.models')


def registry():
    from convnext_mm import ConvNeXt
    scopes = [name for name in ('mmengine', 'mmdet', 'mmseg', 'mmpretrain') if importlib.util.find_spec(name)]
    for name in scopes:
        models = importlib.import_module(f'{name}.registry').MODELS
        if models.get('convnext_mm.ConvNeXt') is not ConvNeXt:
            raise LookupError(f'convnext_mm.ConvNeXt does not resolve from the scope {name}')
    return ', '.join(scopes)


def backbone():
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


def train(config, kind, steps):
    from convnext_mm.datasets import shapes
    with tempfile.TemporaryDirectory() as folder:
        getattr(shapes, f'generate_{kind}')(f'{folder}/data', train=2, val=1, width=96, height=96)
        options = [f'{split}_dataloader.dataset.data_root={folder}/data/' for split in ('train', 'val', 'test')]
        options += ['train_dataloader.batch_size=1', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
                    'train_dataloader.persistent_workers=False', 'val_dataloader.persistent_workers=False', *steps]
        if kind == 'coco':
            options.append(f'val_evaluator.ann_file={folder}/data/annotations/instances_val2017.json')
        command = [sys.executable, str(ROOT / 'tools/train.py'), str(ROOT / 'configs/demo' / config)]
        result = subprocess.run([*command, '--work-dir', f'{folder}/work', '--cfg-options', *options],
                                capture_output=True, text=True)
    if result.returncode:
        sys.exit(f'{result.stderr}\ntools/train.py configs/demo/{config} ended with exit code {result.returncode}: '
                 f'{result.stderr.strip().splitlines()[-1]}')


def detector():
    train('cascade.py', 'coco', ['train_cfg.max_epochs=1', 'train_cfg.val_interval=9'])


def segmentor():
    # BatchNorm in the pooling pyramid wants two images.
    train('upernet.py', 'ade', ['train_dataloader.batch_size=2', 'train_cfg.max_iters=2', 'train_cfg.val_interval=9'])


if __name__ == '__main__':
    # The folder of this file holds modules named like what is to be tried.
    sys.path[:] = [entry for entry in sys.path if Path(entry or '.').resolve() != Path(__file__).resolve().parent]
    print(f'\n\n{globals()[sys.argv[1]]() or ""}')
