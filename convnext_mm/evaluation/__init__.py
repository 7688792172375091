"""Evaluation: measured figures beside the published ones, predictions on disk, and the cost of a model."""
