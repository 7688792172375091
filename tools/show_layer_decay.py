"""Show the learning rate of every layer: tools/show_layer_decay.py configs/cascade/convnext_t_3x.py

Prints the groups of the optimizer and draws their rates over depth; needs no data and no weights.
"""
import argparse
import contextlib
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', default='layer_decay.png', metavar='FILE', help='the picture (default: %(default)s)')
    args = parser.parse_args(argv)
    # Some packages greet on stdout when they are imported, where nothing but the result belongs.
    with contextlib.redirect_stdout(sys.stderr):
        from convnext_mm import launch, layer_decay_view
        cfg = launch.read_config(args.config)
        text = layer_decay_view.show_config(cfg, args.out)
    print(f'{text}\n{args.out}')


if __name__ == '__main__':
    sys.exit(run(main))
