"""Put a ConvNeXt into any mmdet or mmseg config: tools/swap_backbone.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py

Prints what changes and why, builds the new model, trains it for a step on a drawn image, and then writes it.
"""
import argparse
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    from convnext_mm import ARCHS
    from convnext_mm.swap_command import swap_config
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of a config, or mmdet::FAMILY/NAME.py or mmseg::FAMILY/NAME.py')
    parser.add_argument('--arch', choices=ARCHS, default='tiny', help='size of the backbone (tiny)')
    parser.add_argument('--pretrained', default='auto', metavar='NAME|PATH|none',
                        help='weights of the backbone (those that the paper starts from)')
    parser.add_argument('--keep-optimizer', action='store_true', help='leave optim_wrapper as it is')
    parser.add_argument('--output-stride', type=int, choices=(8, 16, 32),
                        help='pixels of the image per pixel of the coarsest map (that of the old backbone)')
    parser.add_argument('--out', metavar='NEW.py', help='file to write (prints the config if not given)')
    parser.add_argument('--full', action='store_true', help='write the whole config, which loads anywhere')
    parser.add_argument('--no-verify', action='store_true', help='do not build and try the model')
    swap_config(parser.parse_args(argv))


if __name__ == '__main__':
    sys.exit(run(main))
