"""Checkpoints: find, read, tell the naming, fit, verify, convert."""
