"""Write a checkpoint in another naming."""
from argparse import Namespace

from convnext_mm.checkpoint.convert import convert_file
from convnext_mm.checkpoint.files import trust_pickles


def main(args: Namespace) -> None:
    """Convert by a command line, and print what was done."""
    trust_pickles(args.trust_checkpoint)
    print(convert_file(args.source, args.target, args.to))
