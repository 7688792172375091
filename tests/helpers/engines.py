"""Short trainings that several processes do together, for test_strategies.py and test_strategies_downstream.py."""
import functools
import itertools
import os
import signal
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import FlexibleRunner, Runner

from convnext_mm.checkpoint.files import read
from convnext_mm.engine import settings as settings_module
from convnext_mm.engine import strategy_choice
from convnext_mm.engine.runner.build import build_runner
from convnext_mm.engine.runner.seeded_data import seed_generators
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.parameters import plain_name

STRATEGIES = {'ddp': 'MMDistributedDataParallel', 'fsdp': 'MMFullyShardedDataParallel'}
SAMPLES, SIDE = 10, 32
ARCH = dict(depths=(1, 1, 4, 1), channels=(8, 12, 16, 24))
SGD = dict(type='SGD', lr=.02)
LAYER_DECAY = dict(constructor='convnext_mm.LayerDecayOptimWrapperConstructor',
                   optimizer=dict(**SGD, weight_decay=.05), paramwise_cfg=dict(decay_rate=.5))


@DATASETS.register_module()
class NoiseImages(torch.utils.data.Dataset):
    """Ten images of noise, the same in every process."""

    metainfo = dict(classes=('a', 'b'))

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return dict(inputs=torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(index)))


@MODELS.register_module()
class MeanLoss(BaseModel):
    """A backbone and a linear layer under a loss that is a mean over samples.

    Args:
        wrong (int): Call of ``forward``, counted from 0, in which the loss of the last process is not finite.
        stop (int): Call in which the last process gets SIGTERM.
        classes (int): Scores of a sample.
        backbone: Of ``convnext_mm.ConvNeXt``.
    """

    def __init__(self, wrong=-1, stop=-1, classes=5, **backbone):
        super().__init__()
        self.wrong, self.stop, self.calls = wrong, stop, 0
        self.register_buffer('seen', torch.zeros(()))
        self.backbone = MODELS.build({
            **dict(type='convnext_mm.ConvNeXt', arch=ARCH, layer_scale_init_value=1.), **backbone})
        self.head = torch.nn.ModuleDict(dict(cls_score=torch.nn.Linear(ARCH['channels'][-1], classes)))

    def forward(self, inputs, mode='loss'):
        if mode == 'predict':
            # As often as windows slide, which differs between processes.
            for _ in range(get_rank()):
                self.backbone(torch.stack(inputs))
        features = self.backbone(torch.stack(inputs))
        scores = self.head.cls_score(features[-1].mean((2, 3)))
        if mode == 'predict':
            return list(scores)
        self.seen += inputs[0].numel() * len(inputs) * get_world_size()
        loss = (scores - 1).square().mean() + sum(f.square().mean() for f in features[:3])
        if get_rank() == get_world_size() - 1:
            if self.calls == self.wrong:
                loss = loss * float('nan')
            if self.calls == self.stop:
                os.kill(os.getpid(), signal.SIGTERM)
        self.calls += 1
        return dict(loss=loss)


@METRICS.register_module()
class MeanScores(BaseMetric):
    """The mean of all scores, for each of their five classes."""

    def process(self, data_batch, data_samples):
        self.results += [scores.cpu() for scores in data_samples]

    def compute_metrics(self, results):
        return {f'score{i}': value.item() for i, value in enumerate(torch.stack(results).mean(0))}


def make_config(work_dir, model=None, dataset='NoiseImages', scope='mmengine', batch_size=1, accumulation=1, epochs=1,
                validate=False, **settings):
    """Return the config of a training with five steps in an epoch, two samples in a step and a checkpoint per epoch."""
    data = dict(dataset=dict(type=dataset), batch_size=batch_size, num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False))
    length = dict(type='convnext_mm.EpochBasedTrainLoop', max_epochs=epochs, accumulation=accumulation)
    cfg = Config(dict(
        model=model or dict(type='MeanLoss'), work_dir=str(work_dir), default_scope=scope,
        experiment_name=Path(work_dir).name,
        launcher='pytorch' if get_world_size() > 1 else 'none',
        train_dataloader=data, train_cfg=length,
        **(dict(val_dataloader=data, val_cfg=dict(type='ValLoop'), val_evaluator=dict(type='MeanScores'))
           if validate else {}),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1),
                           param_scheduler=dict(type='ParamSchedulerHook'),
                           checkpoint=dict(type='CheckpointHook', interval=1)),
        env_cfg=dict(dist_cfg=dict(backend='gloo')), randomness=dict(seed=3),
        **{'optim_wrapper': dict(optimizer=SGD), **settings}))
    cfg.optim_wrapper.setdefault('accumulative_counts', accumulation)
    # A run writes its config to a file, and formatting it would take longer than the training.
    object.__setattr__(cfg, '_format_python_code', False)
    return cfg


def build(cfg, strategy):
    """Return the runner of a command line with ``--strategy``."""
    if strategy is not None:
        strategy_choice.choose_strategy(cfg, strategy)
    settings_module.use_whole_checkpoints(cfg)
    strategy_choice.fit_to_strategy(cfg, strategy, has_accelerator=False)
    settings_module.fit_to_device(cfg)
    return build_runner(cfg)


def train(work_dir, strategy=None, bfloat16=False, in_turn=0, backend='inductor', **settings):
    """Train, and return what the run has at its end.

    Args:
        work_dir (Path): Its folder.
        strategy (str, optional): Of the command line.
        bfloat16 (bool): In mixed precision, which mmengine allows on GPUs alone.
        in_turn (int): Number of processes whose random states the batches of a step get, one after the other.
        backend (str): Of ``torch.compile``.
        settings: Of ``make_config``.
    """
    cfg = make_config(work_dir, **settings)
    has_gpu = 'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available'
    with (mock.patch(has_gpu, return_value=True), mock.patch.object(settings_module, 'type_name', _keep_amp),
          mock.patch.object(torch, 'compile', functools.partial(torch.compile, backend=backend)),
          # To ask a compiler and others for their versions takes longer than the training.
          mock.patch.object(Runner, '_log_env'), mock.patch.object(FlexibleRunner, '_log_env')):
        if bfloat16:
            cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=1.)
        runner = build(cfg, strategy)
        if in_turn:
            _seed_in_turn(runner, in_turn)
        runner.train()
    model, optimizer = runner.model, runner.optim_wrapper.optimizer
    names = {id(p): plain_name(name).removeprefix('module.') for name, p in model.named_parameters()}
    return dict(
        wrapper=type(model).__name__, amp=hasattr(runner.optim_wrapper, 'loss_scaler'),
        held=sum(p.numel() for p in model.parameters()),
        scores=[value for name, history in runner.message_hub.log_scalars.items() if 'score' in name
                for value in history.data[0]],
        norm=[value for name, history in runner.message_hub.log_scalars.items() if 'grad_norm' in name
              for value in history.data[0]],
        groups=[{key: value for key, value in group.items() if key != 'params'} |
                dict(names=[names[id(p)] for p in group['params']]) for group in optimizer.param_groups])


def _keep_amp(settings):
    name = strategy_choice.type_name(settings)
    return 'OptimWrapper' if name == 'AmpOptimWrapper' else name


def _seed_in_turn(runner, count):
    train_step, calls = runner.model.train_step, itertools.count()

    def seeded(batch, optim_wrapper):
        call = next(calls)
        seed_generators(runner.seed, call % count, call // count)
        return train_step(batch, optim_wrapper)
    runner.model.train_step = seeded


def train_all(trainings):
    """Call ``train`` with each of several (arguments, settings); return the results, or the ``UserError`` raised."""
    results = []
    for arguments, settings in trainings:
        try:
            results.append(train(*arguments, **settings))
        except UserError as error:
            results.append(error)
    return results


@DATASETS.register_module()
class DetectionNoise(NoiseImages):
    """Ten images of noise with two objects each."""

    def __getitem__(self, index):
        return self.make(index)

    def make(self, index, empty=False):
        """Return one sample, without objects if ``empty``."""
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks
        from mmengine.structures import InstanceData
        generator, side = torch.Generator().manual_seed(index), 64
        boxes = torch.tensor([[4., 4., 24., 28.], [20., 16., 52., 48.]]) + index
        masks = np.zeros((2, side, side), np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
            mask[top:bottom, left:right] = 1
        kept = slice(0, 0 if empty else 2)
        sample = DetDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side),
                                             scale_factor=(1., 1.), batch_input_shape=(side, side), img_id=index))
        sample.gt_instances = InstanceData(bboxes=boxes[kept], labels=torch.tensor([0, index % 3])[kept],
                                           masks=BitmapMasks(masks[kept], side, side))
        return dict(inputs=torch.randint(0, 255, (3, side, side), generator=generator, dtype=torch.uint8),
                    data_samples=sample)


@DATASETS.register_module()
class SegmentationNoise(NoiseImages):
    """Ten images of noise with a class in each quarter."""

    def __getitem__(self, index):
        return self.make(index)

    def make(self, index, empty=False):
        """Return one sample, with only ignored pixels if ``empty``."""
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample
        generator, side = torch.Generator().manual_seed(index), 64
        classes = torch.randint(0, 4, (1, 2, 2), generator=generator).repeat_interleave(32, 1).repeat_interleave(32, 2)
        sample = SegDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side)))
        sample.gt_sem_seg = PixelData(data=torch.full_like(classes, 255) if empty else classes)
        return dict(inputs=torch.randint(0, 255, (3, side, side), generator=generator, dtype=torch.uint8),
                    data_samples=sample)


def relative(ours, theirs):
    """Return the largest difference between two dicts of tensors, relative to the largest value of each tensor."""
    assert ours.keys() == theirs.keys()
    return max(((ours[name] - tensor).abs().max() / tensor.abs().max().clamp(min=1e-12)).item()
               for name, tensor in theirs.items())


def last(work_dir):
    """Return the content of a run's last checkpoint."""
    return read((Path(work_dir) / 'last_checkpoint').read_text())
