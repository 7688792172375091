"""Tell what a ConvNeXt checkpoint is: tools/inspect_checkpoint.py SRC"""
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    from convnext_mm.checkpoint.convert import describe_file
    from convnext_mm.checkpoint.files import trust_pickles
    parser = Parser(description=__doc__)
    parser.add_argument('source', metavar='SRC', help='a file, an address, or a name such as convnext_tiny_in1k')
    parser.add_argument('--trust-checkpoint', action='store_true',
                        help='load what pickled code in SRC makes, instead of refusing it')
    args = parser.parse_args(argv)
    trust_pickles(args.trust_checkpoint)
    for name, text in describe_file(args.source).items():
        print(f'{name + ":":14}{text}')


if __name__ == '__main__':
    sys.exit(run(main))
