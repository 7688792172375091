"""Check every image, annotation and mask of a config's data."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('check_data'))
