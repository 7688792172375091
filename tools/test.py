"""Test a detector, a segmentor or a classifier."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('test'))
