"""Time whole Mask R-CNN, Cascade Mask R-CNN and UPerNet models: python benchmarks/detector.py [--quick]

The recipes of configs/ with this backbone, mmpretrain's ConvNeXt-T on equal weights, Swin-T and ResNet-50: images per
second in inference, seconds per training iteration (AdamW's step included, no drop path) and peak memory of training,
in float32. Prints tables and writes JSON and a PNG chart. Half an hour on two cores.
"""
import argparse
import contextlib
import copy
import importlib
import sys
import warnings
from typing import NamedTuple

import environment
import limits
import measure
import peers
import show
import startup
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope

from convnext_mm import ARCHS
from convnext_mm.apis.arguments import Parser
from convnext_mm.apis.cli import run
from convnext_mm.checkpoint.state_dicts import convert
from convnext_mm.swap.samples import random_batch
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.freed_memory import keep_freed_memory
from convnext_mm.utils.progress import Bar, Line

CONFIGS = startup.ROOT / 'configs'
PRECISION = 'float32'
#: Method -> config and the toolbox that it is built by.
METHODS = {'Mask R-CNN': ('mask_rcnn/convnext_t_3x.py', 'mmdet'),
           'Cascade Mask R-CNN': ('cascade/convnext_t_3x.py', 'mmdet'),
           'UPerNet': ('upernet/convnext_t_512_160k.py', 'mmseg')}
BACKBONES = (peers.OURS, peers.MMPRETRAIN, 'Swin', 'ResNet')


class Plan(NamedTuple):
    """How much is measured."""

    arch: str
    resnet: int
    #: Toolbox -> images, height and width.
    sizes: dict
    #: Proposals in training and in inference, regions that train a RoI head, and detections of an image.
    regions: tuple
    rounds: int
    quick: bool = False


def full_plan(device):
    """Return the plan of a machine: a GPU gets eight times the images."""
    factor = 8 if device == 'cuda' else 1
    return Plan('tiny', 50, dict(mmdet=(factor, 800, 1280), mmseg=(2 * factor, 512, 512)), (2000, 1000, 512, 100), 3)


QUICK = Plan('atto', 18, dict(mmdet=(1, 64, 96), mmseg=(2, 64, 64)), (50, 50, 32, 5), 2, quick=True)


def _resnet(depth, toolbox):
    settings = dict(depth=depth, num_stages=4, out_indices=(0, 1, 2, 3), style='pytorch')
    if toolbox == 'mmdet':
        # As mmdet's configs/_base_/models/mask-rcnn_r50_fpn.py.
        return dict(type='ResNet', frozen_stages=1, norm_cfg=dict(type='BN', requires_grad=True), norm_eval=True,
                    **settings)
    # As mmseg's configs/_base_/models/upernet_r50.py.
    return dict(type='ResNetV1c', dilations=(1, 1, 1, 1), strides=(1, 2, 2, 2), norm_eval=False,
                norm_cfg=dict(type='BN', requires_grad=True), contract_dilation=True, **settings)


def backbone_config(name, plan, toolbox):
    """Return the config of a backbone, and the channels of its four maps."""
    arch = ARCHS[plan.arch]
    if name == 'ResNet':
        first = 64 if plan.resnet < 50 else 256
        return _resnet(plan.resnet, toolbox), [first * 2 ** i for i in range(4)]
    if name == 'Swin':
        heads = max(arch.channels[0] // 32, 1)
        return (dict(type='SwinTransformer', embed_dims=arch.channels[0], depths=(2, 2, 6, 2), drop_path_rate=0.,
                     num_heads=[heads * 2 ** i for i in range(4)]), list(arch.channels))
    shared = dict(layer_scale_init_value=1., drop_path_rate=0.)
    if name == peers.OURS:
        return dict(type='convnext_mm.ConvNeXt', arch=plan.arch, **shared), list(arch.channels)
    return (dict(type='mmpretrain.ConvNeXt', arch=arch._asdict(), out_indices=[0, 1, 2, 3],
                 gap_before_final_norm=False, **shared), list(arch.channels))


def model_config(method, name, plan):
    """Return a method's config with another backbone, and with the counts of regions of a plan."""
    file, toolbox = METHODS[method]
    model = Config.fromfile(CONFIGS / file).model
    model.backbone, channels = backbone_config(name, plan, toolbox)
    if 'decode_head' in model:
        model.decode_head.in_channels = channels
        model.auxiliary_head.in_channels = channels[model.auxiliary_head.in_index]
        model.test_cfg = dict(mode='whole')
        return model
    model.neck.in_channels = channels
    train, test, sampled, detections = plan.regions
    model.train_cfg.rpn_proposal.max_per_img, model.test_cfg.rpn.max_per_img = train, test
    rcnn = model.train_cfg.rcnn
    for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
        stage.sampler.num = sampled
    model.test_cfg.rcnn.max_per_img = detections
    return model


def import_models(package):
    """Register a toolbox's models; some packages greet on stdout when they are imported."""
    with contextlib.redirect_stdout(sys.stderr):
        importlib.import_module(f'{package}.models')


def import_parts(method, name):
    """Register the parts of a method with a backbone."""
    import_models(METHODS[method][1])
    if name == peers.MMPRETRAIN:
        import_models(name)


class Model:
    """A model that is measured: ``inference()`` and ``training()`` do a batch once, the same work every time."""

    def __init__(self, method, name, plan, device):
        toolbox = METHODS[method][1]
        import_parts(method, name)
        init_default_scope(toolbox)
        cfg = model_config(method, name, plan)
        torch.manual_seed(0)
        self.model = MODELS.build(cfg)
        self.model.init_weights()
        self.model = revert_sync_batchnorm(self.model).to(device)
        _let_one_class_win(self.model)
        count, *size = plan.sizes[toolbox]
        drawn = random_batch(cfg, tuple(size))
        self.batch = {key: [copy.deepcopy(values[i % len(values)]) for i in range(count)]
                      for key, values in drawn.items()}
        self.size = f'{size[0]}x{size[1]}'
        # A step too small to change what proposals there are.
        self.optim_wrapper = OptimWrapper(torch.optim.AdamW(self.model.parameters(), lr=1e-9))

    def inference(self):
        """Return the results for a batch, from bytes of images to masks of their size."""
        self.model.eval()
        with torch.no_grad():
            return self.model.test_step(copy.deepcopy(self.batch))

    def training(self):
        """Run an iteration: losses, gradients and the optimizer's step."""
        self.model.train()
        torch.manual_seed(0)
        return self.model.train_step(copy.deepcopy(self.batch), self.optim_wrapper)

    def losses(self):
        """Run the forward pass of an iteration."""
        self.model.train()
        torch.manual_seed(0)
        return self.model(**self.model.data_preprocessor(copy.deepcopy(self.batch), True), mode='loss')

    def features(self):
        """Return the backbone's features of the batch."""
        self.model.eval()
        with torch.no_grad():
            return self.model.backbone(self.model.data_preprocessor(copy.deepcopy(self.batch), False)['inputs'])


def _let_one_class_win(model):
    """Raise the score of one class everywhere: at random scores, all below the threshold, no mask would be made."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('fc_cls.bias'):
                parameter[0] += 5


def equalise(models):
    """Give mmpretrain's backbone and the heads around it the weights of ours, and make sure that the features agree.

    Returns:
        float | None: Their difference; None where one is missing.
    """
    ours, theirs = (models.get(name) for name in (peers.OURS, peers.MMPRETRAIN))
    if ours is None or theirs is None:
        return None
    theirs.model.load_state_dict(convert(ours.model.state_dict(), 'mmpretrain'))
    return peers.check_equal(peers.MMPRETRAIN, 'features', theirs.features(), ours.features(), PRECISION)


def start():
    """Return the device, and let the process handle memory as the tools do."""
    device = environment.device()
    if device == 'cpu':
        keep_freed_memory()
    return device


def print_peak(method, name, quick):
    """Build a model, train it for two iterations, and print the most memory that this took, in bytes.

    Run it in a process of its own: it counts what torch allocated on a GPU, elsewhere the growth since imports.
    """
    device = start()
    import_parts(method, name)
    before, = measure.process_bytes('VmRSS')
    MMLogger.get_instance('benchmark', log_level='ERROR')
    model = Model(method, name, QUICK if quick else full_plan(device), device)
    for _ in range(2):
        model.training()
    if device == 'cuda':
        print(torch.cuda.max_memory_allocated())
    else:
        print(measure.process_bytes('VmHWM')[0] - before)


def measure_method(method, names, plan, peaks):
    """Measure all backbones in a method, in a process of its own.

    Returns:
        tuple: A row for each backbone and task, and the difference of mmpretrain's features from ours.
    """
    warnings.filterwarnings('ignore')
    MMLogger.get_instance('benchmark', log_level='ERROR')
    device, progress = start(), Line(sys.stderr).show
    memory = {}
    for name in names:
        progress(f'{method} with {name}: memory')
        memory[name] = int(startup.child(f'import detector\ndetector.print_peak({method!r}, {name!r}, {plan.quick})'))
    models = {}
    for name in names:
        progress(f'{method} with {name}: building')
        models[name] = Model(method, name, plan, device)
    differ, rows = equalise(models), []
    for task in ('inference', 'training'):
        calls, warm, works = {}, {}, {}
        for name, model in models.items():
            progress(f'{method} with {name}: {task}, warming up')
            works[name] = limits.counted_work(model.inference if task == 'inference' else model.losses)
            calls[name] = getattr(model, task)
            warm[name] = measure.warm_up(calls[name])
        bar = Bar(plan.rounds * len(calls), f'{method}, {task}: runs')
        samples = measure.interleave(calls, dict.fromkeys(calls, plan.rounds), warm, bar.add)
        rows += [dict(method=method, name=name, task=task, precision=PRECISION, size=model.size,
                      batch=len(model.batch['inputs']), limit_seconds=peaks.seconds(works[name], PRECISION, task),
                      peak_memory=memory[name] if task == 'training' else None, samples=samples[name],
                      **measure.spread(samples[name])._asdict()) for name, model in models.items()]
    return rows, differ


def find_missing():
    """Return ``{package: why}`` of the toolboxes that cannot be imported."""
    missing = {}
    for package in ('mmdet', 'mmseg', 'mmpretrain'):
        try:
            import_models(package)
        # A toolbox asserts the version of mmcv.
        except (ImportError, AssertionError) as error:
            missing[package] = ' '.join(str(error).split()) or type(error).__name__
    return missing


def measure_all(plan):
    """Measure all that a plan has; return the results, ready for JSON.

    Raises:
        UserError: Neither mmdet nor mmseg can be imported.
    """
    described, missing = environment.describe(), find_missing()
    methods = [method for method, (_, toolbox) in METHODS.items() if toolbox not in missing]
    if not methods:
        raise UserError(f'no model can be built: mmdet: {missing["mmdet"]}; mmseg: {missing["mmseg"]}')
    names = [name for name in BACKBONES if name not in missing]
    peaks = limits.measure_peaks(described['device'], [PRECISION], plan.quick)
    results = dict(environment=described, plan=plan._asdict(), quick=plan.quick, missing=missing,
                   peaks=peaks._asdict(), rows=[], features_differ={})
    for method in methods:
        rows, results['features_differ'][method] = measure.alone(measure_method, method, names, plan, peaks)
        results['rows'] += rows
    return results


def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='small networks on small images, in a few minutes')
    parser.add_argument('--out', metavar='DIR', help='folder for the results (default: benchmarks/results, of --quick '
                        'work_dirs/benchmarks)')
    args = parser.parse_args(argv)
    place = show.place(args.out, args.quick)
    results = measure_all(QUICK if args.quick else full_plan(environment.device()))
    print(show.detector_tables(results))
    show.write(results, show.detector_chart, place / f'{environment.file_name(results["environment"])}-detector')


if __name__ == '__main__':
    sys.exit(run(main))
