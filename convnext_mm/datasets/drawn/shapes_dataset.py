"""The drawn images with a map of classes, as a data set of mmseg's."""
from typing import Any

from mmseg.datasets import BaseSegDataset

from convnext_mm.datasets.scenes import SEMANTIC_CLASSES
from convnext_mm.registry import DATASETS


@DATASETS.register_module()
class ShapesDataset(BaseSegDataset):
    """The images and maps of ``shapes.generate_ade``. The class names the categories, as some tools of mmseg need it.

    Args:
        reduce_zero_label (bool): Index 0 of a map is unlabelled, and classes count from 1. Default: True.
        **settings: Those of ``BaseSegDataset``.
    """

    METAINFO = dict(classes=SEMANTIC_CLASSES,
                    palette=[(205, 205, 200), (228, 40, 60), (30, 120, 240), (255, 190, 0)])

    def __init__(self, reduce_zero_label: bool = True, **settings: Any):
        super().__init__(img_suffix='.png', seg_map_suffix='.png', reduce_zero_label=reduce_zero_label, **settings)
