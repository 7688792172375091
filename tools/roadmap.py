"""Show the roadmap from ResNet to ConvNeXt, and train its steps."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('roadmap'))
