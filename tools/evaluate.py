"""Evaluate what tools/test.py --out stored, without the model: tools/evaluate.py PREDICTIONS CONFIG"""
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    from convnext_mm import evaluation, launch
    parser = Parser(description=__doc__)
    parser.add_argument('predictions', help='a .json or .pkl file (detection) or a folder (segmentation)')
    launch.add_config_arguments(parser)
    parser.add_argument('--work-dir', help='folder for the table (work_dirs/FOLDER/NAME of the config)')
    evaluation.add_arguments(parser)
    evaluation.evaluate(parser.parse_args(argv))


if __name__ == '__main__':
    sys.exit(run(main))
