"""Count parameters and multiply-accumulates."""
import argparse
import contextlib
import json
import sys
from typing import Any

from convnext_mm.apis.config import read_config
from convnext_mm.evaluation import cost
from convnext_mm.utils.config_files import config_folder
from convnext_mm.utils.errors import UserError


def main(args: argparse.Namespace) -> None:
    """Count by a command line (see `tools/get_flops.py`), and print a table or JSON."""
    if args.all == bool(args.config):
        raise UserError('give a config or --all')
    if args.all and args.shape:
        raise UserError('--shape goes with a config: --all counts at the published shapes')
    if args.shape and min(args.shape) < 32:
        raise UserError(f'--shape {args.shape[0]} {args.shape[1]}: height and width must be at least 32 pixels')
    with contextlib.redirect_stdout(sys.stderr):
        result: Any
        if args.all:
            result = cost.count_published(config_folder('convnext_mm'), print)
        else:
            result = cost.count_config(read_config(args.config), args.shape)
    table = cost.format_published if args.all else cost.format_cost
    print(json.dumps(result) if args.json else table(result))
