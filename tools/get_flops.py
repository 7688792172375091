"""Count parameters and multiply-accumulates: tools/get_flops.py configs/cascade/convnext_t_3x.py

Needs no data, no weights and little memory; --all counts every published model beside its published cost.
"""
import argparse
import contextlib
import json
import sys
from pathlib import Path

from convnext_mm.cli import Parser, run
from convnext_mm.utils.errors import UserError


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument('--all', action='store_true', help='every published model')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'), help='image size in pixels')
    parser.add_argument('--json', action='store_true', help='print JSON')
    args = parser.parse_args(argv)
    if args.all == bool(args.config):
        parser.error('give a config or --all')
    if args.all and args.shape:
        parser.error('--shape goes with a config: --all counts at the published shapes')
    if args.shape and min(args.shape) < 32:
        raise UserError(f'--shape {args.shape[0]} {args.shape[1]}: height and width must be at least 32 pixels')
    # Some packages greet on stdout when they are imported, where nothing but the result belongs.
    with contextlib.redirect_stdout(sys.stderr):
        from convnext_mm import flops, launch
        if args.all:
            result = flops.count_published(Path(__file__).parents[1] / 'configs', print)
            text = flops.format_published
        else:
            result = flops.count_config(launch.read_config(args.config), args.shape)
            text = flops.format_cost
    print(json.dumps(result) if args.json else text(result))


if __name__ == '__main__':
    sys.exit(run(main))
