"""Small models and their files for tests of checkpoints."""
import os

import torch
import torch.nn as nn
from mmengine.model import BaseModel

from convnext_mm import ConvNeXt
from convnext_mm.published.archs import Arch
from tests.helpers.models import randomise
from tests.helpers.official import Official

ARCH = Arch((1, 1, 2, 1), (4, 8, 12, 16))
SMALL = ARCH._asdict()


def backbone(**kwargs):
    return ConvNeXt(**{'arch': SMALL, **kwargs})


def classifier(use_grn=False, seed=0):
    return randomise(Official(ARCH, use_grn), seed).state_dict()


def pyramid(seed=0, **kwargs):
    return randomise(backbone(**kwargs), seed).state_dict()


def save(state_dict, path, key=None):
    torch.save({key: state_dict} if key else state_dict, path)
    return str(path)


class Heads(nn.Module):
    """Stands for the heads of a detector, with layers named as mmdet's."""

    def __init__(self, classes):
        super().__init__()
        self.fc_cls, self.fc_reg = nn.Linear(4, classes + 1), nn.Linear(4, 4 * classes)
        self.shared = nn.BatchNorm2d(4)


class Detector(BaseModel):
    """A whole model in small."""

    def __init__(self, classes=5, **kwargs):
        super().__init__()
        self.backbone = backbone(**kwargs)
        self.neck = nn.Conv2d(4, 4, 1)
        self.roi_head = nn.Module()
        self.roi_head.bbox_head = Heads(classes)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.backbone(inputs)


def detector(seed=0, **kwargs):
    return randomise(Detector(**kwargs), seed)


class Evil:
    """Leaves a mark where it was executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
