"""Swap every config of the installed mmdet and mmseg, try every distinct model, and write a page of the results."""
import os
import sys

from benchmarks.zoo.other import verify_elsewhere
from benchmarks.zoo.page import write_page
from benchmarks.zoo.survey import survey
from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.utils.files import check_place


def main(argv=None):
    parser = Parser(prog='python -m benchmarks.zoo', description=__doc__)
    parser.add_argument('--out', default='docs/zoo.md', help='page to write (docs/zoo.md)')
    parser.add_argument('--log', default='work_dirs/zoo/log.jsonl', help='what is done (work_dirs/zoo/log.jsonl)')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='processes (one a core)')
    parser.add_argument('--only', default='', metavar='TEXT', help='configs with this in their path')
    parser.add_argument('--other', metavar='PYTHON',
                        help='interpreter of the other family of distributions, to try there what does not run here')
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f'--workers must be 1 or more, got {args.workers}')
    for option in ('out', 'log'):
        check_place(f'--{option}', getattr(args, option))
    rows = survey(args.log, args.workers, args.only)
    if args.other:
        rows = verify_elsewhere(rows, args.other, f'{args.log}.other', args.workers)
    write_page(rows, args.out)
    print(f'written: {args.out}')
    return int(any(row['status'] in ('failed', 'swap failed') for row in rows))


if __name__ == '__main__':
    sys.exit(run(main))
