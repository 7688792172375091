"""Measure the robustness of a classifier, a detector or a segmentor."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('robustness'))
