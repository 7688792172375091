"""A page about trainings, finished or not."""
from convnext_mm.visualization.report.page import write_report

__all__ = ['write_report']
