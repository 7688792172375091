"""Export a model, or its backbone, for another runtime."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('export'))
