"""Evaluate what tools/test.py --out stored, without the model."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('evaluate'))
