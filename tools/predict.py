"""Predict images: tools/predict.py configs/cascade/convnext_t_3x.py CHECKPOINT photo.jpg folder 'more/*.png'

Writes OUT_DIR/pictures/*.png and OUT_DIR/predictions.json (COCO's format; of a segmentor, what the values in
OUT_DIR/maps/*.png mean). A broken image is named and skipped, and the exit code is 1 then.
"""
import argparse
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    from convnext_mm import inference, launch
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, folder or glob')
    parser.add_argument('--out-dir', default='predictions', help='folder for the results (predictions)')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time, of neighbours of one size (1)')
    parser.add_argument('--score-thr', type=float,
                        help=f'leave detections below this score out ({inference.SCORE_THR})')
    parser.add_argument('--device', help='cpu, cuda:0 and so on (a GPU if there is one)')
    parser.add_argument('--trust-checkpoint', action='store_true',
                        help='load a checkpoint that may run code when it is read')
    return inference.predict(parser.parse_args(argv))


if __name__ == '__main__':
    sys.exit(run(main))
