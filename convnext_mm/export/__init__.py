"""Models outside of PyTorch: what is written in a format of another runtime, and how it is checked before."""
from convnext_mm.export.exported import ExportedDetector, ExportedSegmentor  # noqa: F401 -- registered
