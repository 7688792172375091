"""Count the cost of a model by the paper's convention, without data, weights or real memory.

The convention, which reproduces the thirteen published costs, counts multiply-accumulates of convolutions, transposed
ones included, and of linear layers. It follows the inference path, so it leaves out auxiliary heads; 1000 proposals go
through every box head and 100 through every mask head. Only shapes matter, so the model lives on torch's meta device.

Source: arXiv:2201.03545, tables 3 and 4; the published figures in ``paper.json``.
"""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch.utils.flop_counter import FlopCounterMode

from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.published.paper import published, recipe
from convnext_mm.utils.configs import is_segmentor
from convnext_mm.utils.text import format_table

BOX_PROPOSALS, MASK_PROPOSALS = 1000, 100
_COUNTED = {'convolution', 'mm', 'addmm'}


def build_on_meta(cfg: Config) -> torch.nn.Module:
    """Build the model of a config on torch's meta device: shapes without memory."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with torch.device('meta'), MODELS.switch_scope_and_registry(None) as registry:
        return registry.build(cfg.model)


class Cost(NamedTuple):
    """The number of parameters of the whole model, and its multiply-accumulates by part."""

    parameters: int
    macs: dict

    @property
    def total(self) -> int:
        """Return the multiply-accumulates of all parts."""
        return sum(self.macs.values())


def count_macs(function: Callable, *inputs: torch.Tensor) -> tuple[int, Any]:
    """Return the multiply-accumulates of convolutions and linear layers in ``function(*inputs)``, and its result."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = function(*inputs)
    # torch counts a multiplication and an addition as two operations.
    counts = {str(op).rsplit('.', 1)[-1]: n // 2 for op, n in counter.get_flop_counts().get('Global', {}).items()}
    return sum(n for name, n in counts.items() if name in _COUNTED), result


def count_model(model: Any, shape: Sequence[int]) -> Cost:
    """Return the cost of a detector or segmentor on one image.

    Args:
        model (nn.Module): mmdet's two-stage detector or mmseg's encoder-decoder, on the meta device.
        shape (Sequence[int]): Height and width of the image in pixels.

    Returns:
        Cost: Multiply-accumulates by part: ``backbone``, ``neck``, ``rpn_head``, ``bbox_head``, ``mask_head``;
        ``backbone`` and ``decode_head``.
    """
    model.eval()
    macs = {}
    macs['backbone'], features = count_macs(model.backbone, torch.empty(1, model.backbone.in_channels, *shape,
                                                                        device='meta'))
    if getattr(model, 'neck', None) is not None:
        macs['neck'], features = count_macs(model.neck, features)
    if is_segmentor(model):
        macs['decode_head'], _ = count_macs(model.decode_head, features)
    if hasattr(model, 'roi_head'):
        macs['rpn_head'], _ = count_macs(model.rpn_head, features)
        for name, proposals in (('bbox_head', BOX_PROPOSALS), ('mask_head', MASK_PROPOSALS)):
            heads = getattr(model.roi_head, name, None)
            if heads is not None:
                # A cascade averages the classes and the masks of all its stages.
                heads = heads if isinstance(heads, torch.nn.ModuleList) else [heads]
                macs[name] = sum(count_macs(head, _regions(head, proposals))[0] for head in heads)
    return Cost(sum(p.numel() for p in model.parameters()), macs)


def _regions(head, number):
    size = head.roi_feat_size
    size = (size, size) if isinstance(size, int) else size
    return torch.empty(number, head.in_channels, *size, device='meta')


def default_shape(cfg: Config) -> tuple[int, int]:
    """Return the height and width at which a config's cost is counted.

    That is the published shape, or for other configs what the paper takes: 800 x 1280 for detectors, and the height of
    the crop by four times that for segmentors.
    """
    row = recipe(cfg.filename)
    if row is not None:
        return tuple(row['flops_shape'])
    if 'decode_head' not in cfg.model:
        return 800, 1280
    height = (cfg.model.get('data_preprocessor') or {}).get('size', (512, 512))[0]
    return height, 4 * height


def count_config(cfg: Config, shape: Sequence[int] | None = None) -> dict:
    """Return the cost of a config's model, at ``shape`` or its default one, ready for JSON."""
    shape = tuple(shape or default_shape(cfg))
    cost = count_model(build_on_meta(cfg), shape)
    return dict(shape=shape, parameters=cost.parameters, macs=cost.total, parts=cost.macs)


def count_backbone(arch: str, resolution: int) -> int:
    """Return the multiply-accumulates of a bare backbone on a square image of ``resolution`` pixels a side."""
    with torch.device('meta'):
        model = ConvNeXt(arch, out_indices=(3,))
        return count_macs(model, torch.empty(1, 3, resolution, resolution))[0]


def count_published(configs: Path, progress: Callable[[str], Any] = lambda text: None) -> list[dict]:
    """Count every published cost again.

    Args:
        configs (Path): The folder `configs/`.
        progress (Callable): Called with the name of what is counted next.

    Returns:
        list[dict]: ``name``, ``parameters`` and ``macs`` with the published ``params_m`` and ``flops_g``; the
        parameters of bare backbones, which the paper gives with a classifier, are None.
    """
    rows = []
    for row in published()['coco'] + published()['ade20k']:
        progress(row['config'])
        counted = count_config(Config.fromfile(Path(configs, row['config'])))
        rows.append(dict(name=row['config'], parameters=counted['parameters'], macs=counted['macs'],
                         params_m=row['params_m'], flops_g=row['flops_g']))
    seen = set()
    for row in published()['imagenet']:
        key = row['arch'], row['resolution']
        if key not in seen:
            seen.add(key)
            rows.append(dict(name=f'backbone {row["arch"]} {row["resolution"]}', parameters=None,
                             macs=count_backbone(*key), params_m=None, flops_g=row['flops_g']))
    return rows


def format_published(rows: list[dict]) -> str:
    """Return a table of what :func:`count_published` returns."""
    def cells(row):
        giga = row['macs'] / 1e9
        parameters = '' if row['parameters'] is None else f'{row["parameters"] / 1e6:.2f}'
        return (row['name'], parameters, '' if row['params_m'] is None else row['params_m'], f'{giga:.2f}',
                row['flops_g'], f'{100 * (giga / row["flops_g"] - 1):+.2f} %')
    return format_table(('', 'M parameters', 'published', 'G MACs', 'published', 'difference'), map(cells, rows))


def format_cost(counted: dict) -> str:
    """Return a table of what :func:`count_config` returns."""
    rows = [*counted['parts'].items(), ('total', counted['macs'])]
    table = format_table(('part', 'G MACs'), ((name, f'{macs / 1e9:.2f}') for name, macs in rows))
    return f'{counted["parameters"]:,} parameters; at {counted["shape"][0]} x {counted["shape"][1]}\n{table}'
