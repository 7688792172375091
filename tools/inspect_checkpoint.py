"""Tell what a ConvNeXt checkpoint is."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('inspect_checkpoint'))
