"""Write a page about trainings, finished or not: tools/report.py work_dirs/cascade/convnext_t_3x [WORK_DIR ...]

The page is one HTML file that holds everything; several runs stand side by side.
"""
import argparse
import contextlib
import sys
from pathlib import Path

from convnext_mm.cli import Parser, run


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='folder of a training')
    parser.add_argument('--out', metavar='PAGE.html', help='the page (default: report.html in the first WORK_DIR)')
    args = parser.parse_args(argv)
    out = args.out or str(Path(args.work_dirs[0], 'report.html'))
    # Some packages greet on stdout when they are imported, where nothing but the result belongs.
    with contextlib.redirect_stdout(sys.stderr):
        from convnext_mm import report
        report.write_report(args.work_dirs, Path(__file__).resolve().parents[1] / 'configs', out)
    print(out)


if __name__ == '__main__':
    sys.exit(run(main))
