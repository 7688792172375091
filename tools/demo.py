"""Train, test and show a small detector and segmentor on drawn shapes: tools/demo.py"""
import sys
from pathlib import Path

from convnext_mm.cli import Parser, run

ROOT = Path(__file__).resolve().parents[1]


def main(argv=None):
    from convnext_mm import demo
    parser = Parser(description=__doc__)
    parser.add_argument('--quick', action='store_true',
                        help='two iterations on a handful of images, in work_dirs/quick: does everything work?')
    quick = parser.parse_args(argv).quick
    return demo.run(ROOT, ROOT / 'work_dirs' / 'quick' if quick else ROOT, quick)


if __name__ == '__main__':
    sys.exit(run(main))
