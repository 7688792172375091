"""The augmentation of the paper's ImageNet trainings."""
from convnext_mm.datasets.transforms.imagenet import ImageNetEvalTransform, ImageNetTrainTransform
from convnext_mm.datasets.transforms.mixing import MixupCutmix

__all__ = ['ImageNetEvalTransform', 'ImageNetTrainTransform', 'MixupCutmix']
