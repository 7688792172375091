"""Check every image, annotation and mask of a config's data sets: tools/check_data.py configs/cascade/convnext_t_3x.py

Exit code 0: nothing is wrong; 1: something is, and was named; 2: the config cannot be used.
"""
import argparse
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    from convnext_mm import data_report, launch
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=launch.OverrideAction, metavar='KEY=VALUE',
                        help='override settings of the config, such as train_dataloader.dataset.data_root=DIR')
    parser.add_argument('--fix', metavar='OUT', help='write an annotation file without what is wrong')
    args = parser.parse_args(argv)
    return data_report.check(launch.read_config(args.config, args.cfg_options), args.fix)


if __name__ == '__main__':
    sys.exit(run(main))
