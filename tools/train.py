"""Train a detector or a segmentor: tools/train.py configs/cascade/convnext_t_3x.py"""
import sys

from convnext_mm.cli import Parser, run


def main(argv=None):
    from convnext_mm import launch, strategy_choice
    parser = Parser(description=__doc__)
    launch.add_arguments(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='auto|PATH',
                        help='go on from a checkpoint; without a path from the newest one in the work dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision, in the amp_dtype of the config')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate from auto_scale_lr.base_batch_size to the images in a step')
    parser.add_argument('--effective-batch-size', type=int, metavar='N',
                        help='images in an optimizer step: gradients of several batches are accumulated to it')
    parser.add_argument('--deterministic', action='store_true',
                        help='the same results in every run of the same seed (0 unless the config has one); slower')
    parser.add_argument('--strategy', choices=strategy_choice.NAMES,
                        help='how several processes train one model, in place of what the config says (ddp)')
    launch.train(parser.parse_args(argv))


if __name__ == '__main__':
    sys.exit(run(main))
