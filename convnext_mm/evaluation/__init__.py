"""Figures of a model beside the published ones, predictions on disk, the cost of a model."""
