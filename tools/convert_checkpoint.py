"""Write a ConvNeXt checkpoint in another library's naming."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('convert_checkpoint'))
