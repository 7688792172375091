"""The arguments of every command, named as in mmdet's and mmseg's tools; torch and mm are not imported for them.

``COMMANDS`` has a function for each command: its docstring is what ``--help`` says, and it adds the arguments.
"""
import argparse
import os
from difflib import get_close_matches

from convnext_mm.checkpoint.namings import NAMINGS
from convnext_mm.published.archs import ARCHS
from convnext_mm.published.roadmap import REGIMES
from convnext_mm.published.robustness import published_robustness

#: Name of the command line that has all commands.
PROGRAM = 'convnext-mm'
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
STRATEGIES = ('ddp', 'fsdp', 'deepspeed')
PRECISIONS = ('float32', 'bfloat16')
#: Detections below it are left out of pictures and results.
SCORE_THR = .3


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line, and says what an argument takes that has no value."""

    def error(self, message):
        for action in self._actions:
            if action.help and message.startswith(f'argument {"/".join(action.option_strings)}: expected'):
                names = action.metavar or action.dest.upper()
                message += (f', {names if isinstance(names, str) else " ".join(names)}: '
                            f'{action.help % dict(vars(action), prog=self.prog)}')
        self.exit(2, f'{self.prog}: error: {message} (--help shows the usage)\n')


def _add_options(parser, example):
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help=f'override settings of the config, such as {example}')


def _add_config(parser):
    parser.add_argument('config', help='path of a config, or its name, such as mmdet::FAMILY/NAME.py')
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
    # torchrun sets the variable for each process that it starts.
    parser.add_argument('--launcher', choices=LAUNCHERS,
                        default='pytorch' if 'TORCHELASTIC_RUN_ID' in os.environ else 'none',
                        help='how processes were started (none; pytorch under torchrun)')


def _add_precision(parser):
    parser.add_argument('--precision', choices=PRECISIONS, default=PRECISIONS[0],
                        help='what the network computes in; bfloat16 is faster where a processor has it (%(default)s)')


def _add_reference(parser):
    parser.add_argument('--reference', default='auto', metavar='auto|NAME|none',
                        help='published figures to compare with: those of the config (the default), those of another '
                             'one such as cascade/convnext_t_3x, or none')


def train(parser):
    """Train a detector, segmentor or classifier: convnext-mm train convnext_mm::cascade/convnext_t_3x.py"""
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
    """Test a detector, segmentor or classifier: convnext-mm test convnext_mm::cascade/convnext_t_3x.py CHECKPOINT"""
    _add_run(parser)
    parser.add_argument('checkpoint', help='checkpoint file, or one that export wrote')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation: multi-scale and flip')
    _add_precision(parser)
    parser.add_argument('--show-dir', help='folder for pictures of predictions beside ground truth')
    parser.add_argument('--out', help='store the predictions: a .json file (detection; .pkl: as mmdet does), a folder '
                                      '(segmentation), for the command evaluate')
    _add_reference(parser)


def evaluate(parser):
    """Evaluate what `test --out` stored, without the model: convnext-mm evaluate PREDICTIONS CONFIG"""
    parser.add_argument('predictions', help='a .json or .pkl file (detection) or a folder (segmentation)')
    _add_config(parser)
    parser.add_argument('--work-dir', help='folder for the table (work_dirs/FOLDER/NAME of the config)')
    _add_reference(parser)


def predict(parser):
    """Predict images: convnext-mm predict CONFIG CHECKPOINT photo.jpg folder 'more/*.png'

    Writes OUT_DIR/pictures/*.png and OUT_DIR/predictions.json (COCO's format; of a segmentor, what the values in
    OUT_DIR/maps/*.png mean). An image that is broken, or fails in the model, is named and skipped, and the exit code is
    1 then.
    """
    _add_config(parser)
    parser.add_argument('checkpoint', help='checkpoint file, or one that export wrote')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, folder or glob')
    parser.add_argument('--out-dir', default='predictions', help='folder for the results (predictions)')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time, of neighbours of one size (1)')
    parser.add_argument('--score-thr', type=float, help=f'leave detections below this score out ({SCORE_THR})')
    parser.add_argument('--device', help='cpu, cuda:0 and so on (a GPU if there is one)')
    _add_precision(parser)
    _add_trust(parser)


def report(parser):
    """Write a page about trainings, finished or not: convnext-mm report work_dirs/cascade/convnext_t_3x [WORK_DIR ...]

    The page is one HTML file that holds everything; several runs stand side by side.
    """
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='folder of a training')
    parser.add_argument('--out', metavar='PAGE.html', help='the page (default: report.html in the first WORK_DIR)')


def check_data(parser):
    """Check every image, annotation and mask of a config's data: convnext-mm check_data CONFIG

    Exit code 0: nothing is wrong; 1: something is, and was named; 2: the config cannot be used.
    """
    parser.add_argument('config', help='path of a config, or its name, such as mmdet::FAMILY/NAME.py')
    _add_options(parser, 'train_dataloader.dataset.data_root=DIR')
    parser.add_argument('--fix', metavar='OUT',
                        help='file to write: the annotations without what is wrong, such as clean.json')


def swap_backbone(parser):
    """Put a ConvNeXt into any mm config: convnext-mm swap_backbone mmdet::retinanet/retinanet_r50_fpn_1x_coco.py

    Prints what changes and why, builds the new model, trains it for a step on a drawn image, and then writes it.
    """
    parser.add_argument('config', help='path of a config, or its name, such as mmdet::FAMILY/NAME.py')
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
    """Count parameters and multiply-accumulates: convnext-mm get_flops convnext_mm::cascade/convnext_t_3x.py

    Needs no data, no weights and little memory; --all counts every published model beside its published cost.
    """
    parser.add_argument('config', nargs='?', help='path of a config, or its name, such as mmdet::FAMILY/NAME.py')
    parser.add_argument('--all', action='store_true', help='every published model')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'), help='image size in pixels')
    parser.add_argument('--json', action='store_true', help='print JSON')


def show_layer_decay(parser):
    """Show the learning rate of every layer: convnext-mm show_layer_decay convnext_mm::cascade/convnext_t_3x.py

    Prints the groups of the optimizer and draws their rates over depth; needs no data and no weights.
    """
    parser.add_argument('config', help='path of a config, or its name, such as mmdet::FAMILY/NAME.py')
    parser.add_argument('--out', default='layer_decay.png', metavar='FILE', help='the picture, a PNG (%(default)s)')


def convert_checkpoint(parser):
    """Write a ConvNeXt checkpoint in another library's naming: convnext-mm convert_checkpoint SRC DST --to timm"""
    parser.add_argument('source', metavar='SRC', help='a file, an address, or a name such as convnext_tiny_in1k')
    parser.add_argument('target', metavar='DST', help="the file to write: .safetensors, or torch's format for .pth")
    parser.add_argument('--to', required=True, choices=NAMINGS, help='whose naming')
    _add_trust(parser)


def export(parser):
    """Export a model, or its backbone, for another runtime: convnext-mm export CONFIG CHECKPOINT model.onnx

    The file is run by its runtime and compared with PyTorch before it is written. docs/deploy.md tells what it takes.
    """
    _add_config(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('out', metavar='OUT', help='the file: .onnx, .pt2 (torch.export) or .xml (OpenVINO)')
    parser.add_argument('--part', choices=('whole', 'backbone'), default='whole',
                        help='the whole model, or its backbone alone (%(default)s)')
    parser.add_argument('--logits', action='store_true', help='return the logits beside the labels')
    parser.add_argument('--nms', choices=('hard',), help='suppress boxes by plain NMS where the config has soft NMS')
    parser.add_argument('--half', action='store_true', help='store weights in 16 bits: half of the size')
    parser.add_argument('--int8', action='store_true', help='in 8 bits, calibrated on --images or the training set')
    parser.add_argument('--images', nargs='+', default=[], metavar='IMAGE', help='check with these, not drawn images')
    parser.add_argument('--force', action='store_true', help='replace OUT if it is there')
    _add_trust(parser)


def inspect_checkpoint(parser):
    """Tell what a ConvNeXt checkpoint is: convnext-mm inspect_checkpoint SRC"""
    parser.add_argument('source', metavar='SRC', help='a file, an address, or a name such as convnext_tiny_in1k')
    _add_trust(parser)


def roadmap(parser):
    """Show the paper's way from ResNet to ConvNeXt, step by step: convnext-mm roadmap

    Prints the published accuracy and operations of all steps beside the operations counted here, and draws figure 2.
    With --train it trains steps first; what was measured is a column more. A stopped training goes on.
    """
    parser.add_argument('--train', nargs='+', metavar='STEP',
                        help='steps to train, by name or number (0 to 16), or all')
    parser.add_argument('--regime', choices=REGIMES, default='resnet50', help='of what is trained (%(default)s)')
    parser.add_argument('--data', choices=('drawn', 'imagenet'), default='drawn',
                        help='drawn shapes, in an eighth of the width at 64x64, or data/imagenet (%(default)s)')
    parser.add_argument('--work-dir', default='work_dirs/roadmap', help='folder of the trainings (%(default)s)')
    parser.add_argument('--out', default='roadmap.png', metavar='FILE', help='the picture, a PNG (%(default)s)')
    parser.add_argument('--json', action='store_true', help='print JSON')


def robustness(parser):
    """Measure how a model bears corrupted images: convnext-mm robustness CONFIG CHECKPOINT

    A classifier is measured on ImageNet-C, C-bar, A, R and Sketch below --data, beside the paper's table 8; a detector
    or a segmentor on the images of its test in 15 corruptions, drawn on the fly. Prints the figures as Markdown, and
    writes them as JSON too. What is measured is not measured again. See docs/robustness.md.
    """
    _add_config(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--data', metavar='DIR', help='of a classifier: folder with a folder for each set')
    parser.add_argument('--sets', nargs='+', choices=published_robustness()['sets'],
                        help='of a classifier: sets to measure (all that are there)')
    parser.add_argument('--reference', choices=[row['model'] for row in published_robustness()['rows']],
                        help='of a classifier: model of table 8 to compare with')
    parser.add_argument('--quick', action='store_true',
                        help='of a detector or segmentor: 3 of the 15 corruptions in 2 of the 5 severities')
    parser.add_argument('--work-dir', help='folder for results and figures (robustness in that of the config)')
    _add_trust(parser)


def demo(parser):
    """Train, test and show a small classifier, detector and segmentor on drawn shapes: convnext-mm demo"""
    parser.add_argument('--quick', action='store_true',
                        help='two iterations on a handful of images, in work_dirs/quick: does everything work?')


def doctor(parser):
    """Examine the installation and say how what is wrong is mended: convnext-mm doctor"""


COMMANDS = {function.__name__: function for function in (
    train, test, evaluate, predict, report, check_data, swap_backbone, get_flops, show_layer_decay, convert_checkpoint,
    export, inspect_checkpoint, roadmap, robustness, demo, doctor)}


def _read_docstring(function):
    """Return a docstring as it stands in the source, without its indentation."""
    return '\n'.join(line.removeprefix('    ') for line in function.__doc__.strip().splitlines())


def make_parser(command, program=None):
    """Return the parser of a command, a key of ``COMMANDS``; ``program`` is what was called (the script's name)."""
    add = COMMANDS[command]
    parser = Parser(prog=program, description=_read_docstring(add),
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add(parser)
    return parser


def _command(name):
    """Return the name of a command, or raise argparse's error, which names the nearest."""
    if name not in COMMANDS:
        near = get_close_matches(name.replace('-', '_'), COMMANDS, 1)
        raise argparse.ArgumentTypeError(f'there is no command {name!r}; ' + (
            f'did you mean {near[0]}?' if near else f'there are {", ".join(COMMANDS)}'))
    return name


def make_overview():
    """Return the parser of the command line that has all commands, which tells each in a line."""
    width = max(map(len, COMMANDS))
    lines = [f'  {name.ljust(width)}  {_read_docstring(function).partition(":")[0]}'
             for name, function in COMMANDS.items()]
    more = (f'{PROGRAM} COMMAND --help tells the rest. On several GPUs: torchrun --nproc_per_node=GPUS -m convnext_mm '
            'train CONFIG')
    parser = Parser(prog=PROGRAM, usage='%(prog)s [-h] COMMAND ...',
                    description='ConvNeXt for OpenMMLab: backbone, recipes and checkpoints.',
                    epilog='\n'.join(['commands:', *lines, '', more]),
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', metavar='COMMAND', type=_command, help='one of those below')
    return parser
