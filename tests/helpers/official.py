"""ConvNeXt as the papers have it, and the names in the official files of their detectors and segmentors."""
import itertools

import torch
import torch.nn as nn
import torch.nn.functional as F

from convnext_mm.checkpoint.state_dicts import BACKBONE
from convnext_mm.published.archs import ARCHS
from convnext_mm.published.paper import published

CLASSES = 7
#: Config -> its row of the paper's tables.
PAPERS_ROWS = {row['config']: row for row in published()['coco'] + published()['ade20k']}


class Official(nn.Module):
    """A ConvNeXt with the official names, computed by functions alone; written from the papers."""

    def __init__(self, arch, use_grn=False):
        super().__init__()
        depths, channels = arch
        self.use_grn, self.depths = use_grn, depths
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        for i, (depth, c) in enumerate(zip(depths, channels)):
            layers = [nn.Conv2d(3 if i == 0 else channels[i - 1], c, 4 if i == 0 else 2),
                      nn.LayerNorm(c if i == 0 else channels[i - 1])]
            self.downsample_layers.append(nn.Sequential(*(layers if i == 0 else layers[::-1])))
            self.stages.append(nn.Sequential(*(self._block(c) for _ in range(depth))))
        self.norm, self.head = nn.LayerNorm(channels[-1]), nn.Linear(channels[-1], CLASSES)

    def _block(self, c):
        block = nn.Module()
        block.dwconv, block.norm = nn.Conv2d(c, c, 7, groups=c), nn.LayerNorm(c)
        block.pwconv1, block.pwconv2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
        if self.use_grn:
            block.grn = nn.Module()
            block.grn.gamma, block.grn.beta = (nn.Parameter(torch.zeros(1, 1, 1, 4 * c)) for _ in range(2))
        else:
            block.gamma = nn.Parameter(torch.ones(c))
        return block

    def features(self, x):
        p, outputs = dict(self.named_parameters()), []

        def norm(x, name):
            return F.layer_norm(x, x.shape[-1:], p[f'{name}.weight'], p[f'{name}.bias'], 1e-6)

        for i in range(4):
            down = f'downsample_layers.{i}'
            conv = f'{down}.{int(i > 0)}'
            if i > 0:
                x = norm(x.permute(0, 2, 3, 1), f'{down}.0').permute(0, 3, 1, 2)
            x = F.conv2d(x, p[f'{conv}.weight'], p[f'{conv}.bias'], stride=2 if i else 4)
            if i == 0:
                x = norm(x.permute(0, 2, 3, 1), f'{down}.1').permute(0, 3, 1, 2)
            for j in range(self.depths[i]):
                b = f'stages.{i}.{j}'
                y = F.conv2d(x, p[f'{b}.dwconv.weight'], p[f'{b}.dwconv.bias'], padding=3, groups=x.shape[1])
                y = F.gelu(F.linear(norm(y.permute(0, 2, 3, 1), f'{b}.norm'), p[f'{b}.pwconv1.weight'],
                                    p[f'{b}.pwconv1.bias']))
                if self.use_grn:
                    g = (y ** 2).sum((1, 2), keepdim=True).sqrt()
                    y = p[f'{b}.grn.gamma'] * (y * g / (g.mean(-1, keepdim=True) + 1e-6)) + p[f'{b}.grn.beta'] + y
                y = F.linear(y, p[f'{b}.pwconv2.weight'], p[f'{b}.pwconv2.bias'])
                x = x + (y if self.use_grn else p[f'{b}.gamma'] * y).permute(0, 3, 1, 2)
            outputs.append(x)
        return outputs

    def forward(self, x):
        x = self.features(x)[-1].mean((2, 3))
        x = F.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias, 1e-6)
        return F.linear(x, self.head.weight, self.head.bias)


def _layer(name, *shape, bias=True):
    """Yield names and shapes of a layer."""
    yield f'{name}.weight', shape
    if bias:
        yield f'{name}.bias', shape[:1]


def _conv_bn(name, *shape):
    """Yield the tensors of mmcv's ``ConvModule`` with a norm: no bias."""
    yield from _layer(f'{name}.conv', *shape, bias=False)
    for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
        yield f'{name}.bn.{leaf}', shape[:1]
    yield f'{name}.bn.num_batches_tracked', ()


def _detector_heads(channels, cascade):
    """Yield neck and heads of the official detectors: mmdet 2.11 ``necks/fpn.py``, ``dense_heads/rpn_head.py``,
    ``roi_heads/{bbox_heads/convfc_bbox_head,mask_heads/fcn_mask_head}.py``."""
    for i, c in enumerate(channels):
        yield from _layer(f'neck.lateral_convs.{i}.conv', 256, c, 1, 1)
        yield from _layer(f'neck.fpn_convs.{i}.conv', 256, 256, 3, 3)
    yield from _layer('rpn_head.rpn_conv', 256, 256, 3, 3)
    yield from _layer('rpn_head.rpn_cls', 3, 256, 1, 1)
    yield from _layer('rpn_head.rpn_reg', 12, 256, 1, 1)
    for stage in ('.0', '.1', '.2') if cascade else ('',):
        box, mask = f'roi_head.bbox_head{stage}', f'roi_head.mask_head{stage}'
        yield from _layer(f'{box}.fc_cls', 81, 1024)
        yield from _layer(f'{box}.fc_reg', 320, 1024)
        yield from _layer(f'{box}.shared_fcs.0', 1024, 256 * 7 * 7)
        if cascade:
            for i in range(4):
                yield from _conv_bn(f'{box}.shared_convs.{i}', 256, 256, 3, 3)
        else:
            yield from _layer(f'{box}.shared_fcs.1', 1024, 1024)
        for i in range(4):
            yield from _layer(f'{mask}.convs.{i}.conv', 256, 256, 3, 3)
        yield f'{mask}.upsample.weight', (256, 256, 2, 2)
        yield f'{mask}.upsample.bias', (256,)
        yield from _layer(f'{mask}.conv_logits', 80, 256, 1, 1)


def _segmentor_heads(channels):
    """Yield the heads of the official segmentors: mmseg 0.11 ``decode_heads/{uper_head,psp_head,fcn_head}.py``."""
    yield from _layer('decode_head.conv_seg', 150, 512, 1, 1)
    for i in range(4):
        yield from _conv_bn(f'decode_head.psp_modules.{i}.1', 512, channels[-1], 1, 1)
    yield from _conv_bn('decode_head.bottleneck', 512, channels[-1] + 4 * 512, 3, 3)
    for i in range(3):
        yield from _conv_bn(f'decode_head.lateral_convs.{i}', 512, channels[i], 1, 1)
        yield from _conv_bn(f'decode_head.fpn_convs.{i}', 512, 512, 3, 3)
    yield from _conv_bn('decode_head.fpn_bottleneck', 512, 4 * 512, 3, 3)
    yield from _layer('auxiliary_head.conv_seg', 150, 256, 1, 1)
    yield from _conv_bn('auxiliary_head.convs.0', 256, channels[2], 3, 3)


def official_file(row):
    """Return names and (meta) tensors of the official fine-tuned checkpoint of one of ``PAPERS_ROWS``."""
    channels = ARCHS[row['arch']].channels
    with torch.device('meta'):
        backbone = Official(ARCHS[row['arch']]).state_dict()
        heads = _segmentor_heads(channels) if row['method'] == 'UPerNet' else \
            _detector_heads(channels, row['method'].startswith('Cascade'))
        norms = itertools.chain(*(_layer(f'{BACKBONE}norm{i}', c) for i, c in enumerate(channels)))
        file = {name: torch.empty(shape) for name, shape in (*norms, *heads)}
    file.update((BACKBONE + name, tensor) for name, tensor in backbone.items() if not name.startswith(('norm', 'head')))
    return file
