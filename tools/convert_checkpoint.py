"""Write a ConvNeXt checkpoint in another library's naming: tools/convert_checkpoint.py SRC DST --to timm"""
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    from convnext_mm.checkpoint.convert import convert_file
    from convnext_mm.checkpoint.files import trust_pickles
    from convnext_mm.checkpoint.namings import NAMINGS
    parser = Parser(description=__doc__)
    parser.add_argument('source', metavar='SRC', help='a file, an address, or a name such as convnext_tiny_in1k')
    parser.add_argument('target', metavar='DST', help="the file to write: .safetensors, or torch's format for .pth")
    parser.add_argument('--to', required=True, choices=NAMINGS, help='whose naming')
    parser.add_argument('--trust-checkpoint', action='store_true',
                        help='load what pickled code in SRC makes, instead of refusing it')
    args = parser.parse_args(argv)
    trust_pickles(args.trust_checkpoint)
    print(convert_file(args.source, args.target, args.to))


if __name__ == '__main__':
    sys.exit(run(main))
