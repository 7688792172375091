"""Test a detector or a segmentor: tools/test.py configs/cascade/convnext_t_3x.py CHECKPOINT"""
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    from convnext_mm import evaluation, launch
    parser = Parser(description=__doc__)
    launch.add_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation: multi-scale and flip')
    parser.add_argument('--show-dir', help='folder for pictures of predictions beside ground truth')
    parser.add_argument('--out', help='store the predictions: a .json file (detection; .pkl: as mmdet does), a folder '
                                      '(segmentation), for tools/evaluate.py')
    evaluation.add_arguments(parser)
    evaluation.test(parser.parse_args(argv))


if __name__ == '__main__':
    sys.exit(run(main))
