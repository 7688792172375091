"""Show the learning rate of every layer."""
import sys

from convnext_mm.apis.cli import main

if __name__ == '__main__':
    sys.exit(main('show_layer_decay'))
