"""Count parameters and multiply-accumulates."""
import contextlib
import json
import sys
from pathlib import Path

from convnext_mm.apis.config import read_config
from convnext_mm.evaluation import cost
from convnext_mm.utils.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def main(args):
    """Count by a command line, and print a table or JSON."""
    if args.all == bool(args.config):
        raise UserError('give a config or --all')
    if args.all and args.shape:
        raise UserError('--shape goes with a config: --all counts at the published shapes')
    if args.shape and min(args.shape) < 32:
        raise UserError(f'--shape {args.shape[0]} {args.shape[1]}: height and width must be at least 32 pixels')
    with contextlib.redirect_stdout(sys.stderr):
        if args.all:
            result, text = cost.count_published(CONFIGS, print), cost.format_published
        else:
            result, text = cost.count_config(read_config(args.config), args.shape), cost.format_cost
    print(json.dumps(result) if args.json else text(result))
