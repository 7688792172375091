"""Metrics; importing this package registers those whose toolbox is installed and works."""
import contextlib

# mmdet and mmseg assert the versions that they can live with, and one of them may be here for another environment.
with contextlib.suppress(ImportError, AssertionError):
    from convnext_mm.evaluation.metrics.coco_metric import CocoMetric  # noqa: F401 -- registered
with contextlib.suppress(ImportError, AssertionError):
    from convnext_mm.evaluation.metrics.iou_metric import IoUMetric  # noqa: F401 -- registered
