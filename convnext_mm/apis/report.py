"""Write a page about trainings."""
import argparse
import contextlib
import sys
from pathlib import Path

from convnext_mm.utils.config_files import config_folder
from convnext_mm.utils.files import check_place
from convnext_mm.visualization.report.page import write_report


def main(args: argparse.Namespace) -> None:
    """Write the page by a command line, and print its path."""
    out = args.out or str(Path(args.work_dirs[0], 'report.html'))
    check_place('--out', out)
    with contextlib.redirect_stdout(sys.stderr):
        write_report(args.work_dirs, config_folder('convnext_mm'), out)
    print(out)
