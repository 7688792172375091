"""Run a command by ``python -m convnext_mm``, or in several processes by ``torchrun -m convnext_mm``."""
import sys

from convnext_mm.apis.cli import command_line

if __name__ == '__main__':
    sys.exit(command_line())
