"""Drawn data as data sets; importing this package registers those whose toolbox is installed and works."""
import contextlib

# mmseg asserts the versions of mmcv and mmengine that it takes, and fails if these do not fit.
with contextlib.suppress(ImportError, AssertionError):
    from convnext_mm.datasets.drawn.shapes_dataset import ShapesDataset  # noqa: F401 -- registered
