"""A small classifier by the recipe of ImageNet-1K, and images of colours for it."""
import numpy as np
from PIL import Image

from tests.helpers.paths import ROOT

#: Class -> its colour; the names are in the order of the labels.
COLOURS = dict(black=(20, 20, 20), blue=(20, 20, 230), green=(20, 180, 20), pink=(240, 150, 200), red=(230, 20, 20),
               white=(235, 235, 235))
#: The recipe of ImageNet-1K, small. The average hardly moves, so that it and the weights predict otherwise.
CONFIG = f"""
_base_ = {str(ROOT / 'configs/imagenet/convnext_t_in1k.py')!r}

def loader(split, transform, size):
    return dict(batch_size=size, num_workers=0, persistent_workers=False, dataset=dict(
        _delete_=True, type='CustomDataset', data_root='data/' + split,
        pipeline=[dict(type=f'convnext_mm.ImageNet{{transform}}Transform', size=32), dict(type='PackInputs')]))


model = dict(
    data_preprocessor=dict(num_classes=6),
    backbone=dict(arch=dict(_delete_=True, depths=(1, 1, 1, 1), channels=(8, 16, 24, 32))),
    neck=dict(in_channels=32), head=dict(in_channels=32, num_classes=6))
train_dataloader, val_dataloader = loader('train', 'Train', 6), loader('val', 'Eval', 5)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=5e-3))
train_cfg = dict(max_epochs=3)
param_scheduler = []
default_hooks = dict(logger=dict(interval=1))
"""


def draw(folder, number, seed):
    """Write noisy images of one colour into a folder for each class."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(number):
            pixels = np.array(colour) + rng.integers(-20, 21, (40, 50, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f'{name}_{i}.png')
