"""The arguments of every command, named as in mmdet's and mmseg's tools; torch and mm are not imported for them.

``COMMANDS`` has a function for each command: its docstring is what ``--help`` says, and it adds the arguments.
"""
import argparse

from convnext_mm.checkpoint.namings import NAMINGS
from convnext_mm.published.archs import ARCHS

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
STRATEGIES = ('ddp', 'fsdp', 'deepspeed')
#: Detections below it are left out of pictures and results.
SCORE_THR = .3


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line."""

    def error(self, message):
        self.exit(2, f'{self.prog}: error: {message} (--help shows the usage)\n')


def _add_options(parser, example):
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help=f'override settings of the config, such as {example}')


def _add_config(parser):
    parser.add_argument('config', help='config file')
    _add_options(parser, 'model.backbone.with_cp=True')
    # What load_config reads besides, for commands without these arguments.
    parser.set_defaults(work_dir=None, launcher='none', strategy=None)


def _add_trust(parser):
    parser.add_argument('--trust-checkpoint', action='store_true',
                        help='load a checkpoint that may run code when it is read')


def _add_run(parser):
    """Add what training and testing share."""
    _add_config(parser)
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (work_dirs/FOLDER/NAME of the config)')
    _add_trust(parser)
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how processes were started')


def _add_reference(parser):
    parser.add_argument('--reference', default='auto', metavar='auto|NAME|none',
                        help='published figures to compare with: those of the config (the default), those of another '
                             'one such as cascade/convnext_t_3x, or none')


def train(parser):
    """Train a detector or a segmentor: tools/train.py configs/cascade/convnext_t_3x.py"""
    _add_run(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='auto|PATH',
                        help='go on from a checkpoint; without a path from the newest one in the work dir')
    parser.add_argument('--resume-with', choices=('config', 'checkpoint'), default='checkpoint',
                        help='whose schedule, learning rate and weight decay hold in a resumed run (%(default)s)')
    parser.add_argument('--amp', action='store_true', help='mixed precision, in the amp_dtype of the config')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate from auto_scale_lr.base_batch_size to the images in a step')
    parser.add_argument('--effective-batch-size', type=int, metavar='N',
                        help='images in an optimizer step: gradients of several batches are accumulated to it')
    parser.add_argument('--deterministic', action='store_true',
                        help='the same results in every run of the same seed (0 unless the config has one); slower')
    parser.add_argument('--strategy', choices=STRATEGIES,
                        help='how several processes train one model, in place of what the config says (ddp)')


def test(parser):
    """Test a detector or a segmentor: tools/test.py configs/cascade/convnext_t_3x.py CHECKPOINT"""
    _add_run(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation: multi-scale and flip')
    parser.add_argument('--show-dir', help='folder for pictures of predictions beside ground truth')
    parser.add_argument('--out', help='store the predictions: a .json file (detection; .pkl: as mmdet does), a folder '
                                      '(segmentation), for tools/evaluate.py')
    _add_reference(parser)


def evaluate(parser):
    """Evaluate what tools/test.py --out stored, without the model: tools/evaluate.py PREDICTIONS CONFIG"""
    parser.add_argument('predictions', help='a .json or .pkl file (detection) or a folder (segmentation)')
    _add_config(parser)
    parser.add_argument('--work-dir', help='folder for the table (work_dirs/FOLDER/NAME of the config)')
    _add_reference(parser)


def predict(parser):
    """Predict images: tools/predict.py configs/cascade/convnext_t_3x.py CHECKPOINT photo.jpg folder 'more/*.png'

    Writes OUT_DIR/pictures/*.png and OUT_DIR/predictions.json (COCO's format; of a segmentor, what the values in
    OUT_DIR/maps/*.png mean). A broken image is named and skipped, and the exit code is 1 then.
    """
    _add_config(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, folder or glob')
    parser.add_argument('--out-dir', default='predictions', help='folder for the results (predictions)')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time, of neighbours of one size (1)')
    parser.add_argument('--score-thr', type=float, help=f'leave detections below this score out ({SCORE_THR})')
    parser.add_argument('--device', help='cpu, cuda:0 and so on (a GPU if there is one)')
    _add_trust(parser)


def report(parser):
    """Write a page about trainings, finished or not: tools/report.py work_dirs/cascade/convnext_t_3x [WORK_DIR ...]

    The page is one HTML file that holds everything; several runs stand side by side.
    """
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='folder of a training')
    parser.add_argument('--out', metavar='PAGE.html', help='the page (default: report.html in the first WORK_DIR)')


def check_data(parser):
    """Check every image, annotation and mask of a config's data: tools/check_data.py configs/cascade/convnext_t_3x.py

    Exit code 0: nothing is wrong; 1: something is, and was named; 2: the config cannot be used.
    """
    parser.add_argument('config', help='config file')
    _add_options(parser, 'train_dataloader.dataset.data_root=DIR')
    parser.add_argument('--fix', metavar='OUT', help='write an annotation file without what is wrong')


def swap_backbone(parser):
    """Put a ConvNeXt into any mm config: tools/swap_backbone.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py

    Prints what changes and why, builds the new model, trains it for a step on a drawn image, and then writes it.
    """
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


def get_flops(parser):
    """Count parameters and multiply-accumulates: tools/get_flops.py configs/cascade/convnext_t_3x.py

    Needs no data, no weights and little memory; --all counts every published model beside its published cost.
    """
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument('--all', action='store_true', help='every published model')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'), help='image size in pixels')
    parser.add_argument('--json', action='store_true', help='print JSON')


def show_layer_decay(parser):
    """Show the learning rate of every layer: tools/show_layer_decay.py configs/cascade/convnext_t_3x.py

    Prints the groups of the optimizer and draws their rates over depth; needs no data and no weights.
    """
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', default='layer_decay.png', metavar='FILE', help='the picture (default: %(default)s)')


def convert_checkpoint(parser):
    """Write a ConvNeXt checkpoint in another library's naming: tools/convert_checkpoint.py SRC DST --to timm"""
    parser.add_argument('source', metavar='SRC', help='a file, an address, or a name such as convnext_tiny_in1k')
    parser.add_argument('target', metavar='DST', help="the file to write: .safetensors, or torch's format for .pth")
    parser.add_argument('--to', required=True, choices=NAMINGS, help='whose naming')
    _add_trust(parser)


def inspect_checkpoint(parser):
    """Tell what a ConvNeXt checkpoint is: tools/inspect_checkpoint.py SRC"""
    parser.add_argument('source', metavar='SRC', help='a file, an address, or a name such as convnext_tiny_in1k')
    _add_trust(parser)


def demo(parser):
    """Train, test and show a small detector and segmentor on drawn shapes: tools/demo.py"""
    parser.add_argument('--quick', action='store_true',
                        help='two iterations on a handful of images, in work_dirs/quick: does everything work?')


def doctor(parser):
    """Examine the installation and say how what is wrong is mended: tools/doctor.py"""


COMMANDS = {function.__name__: function for function in (
    train, test, evaluate, predict, report, check_data, swap_backbone, get_flops, show_layer_decay, convert_checkpoint,
    inspect_checkpoint, demo, doctor)}


def make_parser(command):
    """Return the parser of a command, a key of ``COMMANDS``."""
    add = COMMANDS[command]
    # As it stands in the docstring, without its indentation.
    description = '\n'.join(line.removeprefix('    ') for line in add.__doc__.strip().splitlines())
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add(parser)
    return parser
