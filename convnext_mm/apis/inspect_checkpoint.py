"""Tell what a checkpoint is."""
from argparse import Namespace

from convnext_mm.checkpoint.convert import describe_file
from convnext_mm.checkpoint.files import trust_pickles


def main(args: Namespace) -> None:
    """Print what a checkpoint is, a line for each property."""
    trust_pickles(args.trust_checkpoint)
    for name, text in describe_file(args.source).items():
        print(f'{name + ":":14}{text}')
