"""The metrics; importing this package registers those whose toolbox is installed and works."""
import contextlib

# mmdet and mmseg assert the versions of mmcv and mmengine that they take, and fail if these do not fit.
with contextlib.suppress(ImportError, AssertionError):
    from convnext_mm.evaluation.metrics.coco_metric import CocoMetric  # noqa: F401 -- registered
with contextlib.suppress(ImportError, AssertionError):
    from convnext_mm.evaluation.metrics.iou_metric import IoUMetric  # noqa: F401 -- registered
