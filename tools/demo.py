"""Train, test and show a small classifier, detector and segmentor on drawn shapes."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('demo'))
