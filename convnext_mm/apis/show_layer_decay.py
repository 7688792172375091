"""Show the learning rate of every layer."""
import argparse
import contextlib
import sys

from convnext_mm.apis.config import read_config
from convnext_mm.visualization.figures import check_figure
from convnext_mm.visualization.layer_decay import show_config


def main(args: argparse.Namespace) -> None:
    """Print the groups of the optimizer, draw their rates, and print the picture's path."""
    check_figure('--out', args.out)
    with contextlib.redirect_stdout(sys.stderr):
        text = show_config(read_config(args.config), args.out)
    print(f'{text}\n{args.out}')
