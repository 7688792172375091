"""Count the cost of a model by the paper's convention, without data, weights or real memory.

The convention, which reproduces the thirteen published costs, counts multiply-accumulates of convolutions, transposed
ones included, and of linear layers. It follows the inference path, so it leaves out auxiliary heads; 1000 proposals go
through every box head and 100 through every mask head. Only shapes matter, so the model lives on torch's meta device.

Source: arXiv:2201.03545, tables 1, 3, 4 and 9; the published figures in ``paper.json``.
"""
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from convnext_mm.models.convnext import ConvNeXt
from convnext_mm.models.pooled_layer_norm import PooledLayerNorm
from convnext_mm.published.imagenet import published_imagenet
from convnext_mm.published.paper import published, recipe
from convnext_mm.utils.configs import is_classifier, type_name
from convnext_mm.utils.errors import UserError, describe_error
from convnext_mm.utils.scopes import set_default_scope
from convnext_mm.utils.text import format_table

BOX_PROPOSALS, MASK_PROPOSALS = 1000, 100
_COUNTED = {'convolution', 'mm', 'addmm'}


def build_on_meta(cfg: Config) -> torch.nn.Module:
    """Build the model of a config on torch's meta device: shapes without memory.

    Raises:
        UserError: There is no model, or it cannot be built.
    """
    if not cfg.get('model'):
        raise UserError(f'{cfg.filename} has no model')
    set_default_scope(cfg)
    with MODELS.switch_scope_and_registry(None) as registry:
        try:
            try:
                with torch.device('meta'):
                    return registry.build(cfg.model)
            except (NotImplementedError, RuntimeError):
                # Some backbones read values, such as their drop path rates, from a tensor while they are built.
                return registry.build(cfg.model).to('meta')
        except Exception as error:  # Models are the user's, and may raise anything.
            raise UserError(f'the model of {cfg.filename} cannot be built: {describe_error(error)}') from error


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


def count_model(model: Any, shape: Sequence[int], channels: int = 3) -> Cost:
    """Return the cost of a detector, a segmentor or a classifier on one image.

    Args:
        model (nn.Module): A detector of mmdet, mmseg's encoder-decoder or mmpretrain's classifier, on the meta device.
        shape (Sequence[int]): Height and width of the image in pixels.
        channels (int): Channels of the image. Defaults to 3.

    Returns:
        Cost: Multiply-accumulates by part: ``backbone``, ``neck``, and those of ``head``, ``decode_head``,
        ``bbox_head``, ``rpn_head`` and ``mask_head`` that there are.

    Raises:
        UserError: The model has other parts, such as a transformer, or heads that take more than features.
    """
    model.eval()
    macs, features = {}, torch.empty(1, channels, *shape, device='meta')
    for name in ('backbone', 'neck'):
        if getattr(model, name, None) is not None:
            macs[name], features = _count_part(getattr(model, name), features)
    for name in ('head', 'decode_head', 'bbox_head', 'rpn_head'):
        if getattr(model, name, None) is not None:
            macs[name], _ = _count_part(getattr(model, name), features)
    for name, proposals in (('bbox_head', BOX_PROPOSALS), ('mask_head', MASK_PROPOSALS)):
        heads = getattr(getattr(model, 'roi_head', None), name, None)
        if heads is not None:
            # A cascade averages the classes and the masks of all its stages.
            heads = heads if isinstance(heads, torch.nn.ModuleList) else [heads]
            macs[name] = sum(_count_part(head, _regions(head, proposals))[0] for head in heads)
    _check_parts(model, macs)
    return Cost(sum(p.numel() for p in model.parameters()), macs)


def _count_part(part, inputs):
    try:
        return count_macs(part, inputs)
    except Exception as error:  # Each part of mm takes what it likes.
        raise UserError(f'the cost of {type(part).__name__} cannot be counted by the shapes of features alone: '
                        f'{describe_error(error)}') from error


def _check_parts(model, macs):
    """Refuse a model with weights that were not counted; an auxiliary head does not predict."""
    names = {name.removeprefix('roi_head.').partition('.')[0] for name, _ in model.named_parameters()}
    others = sorted(names - {*macs, 'auxiliary_head'})
    if others:
        raise UserError(f'the cost of {type(model).__name__} cannot be counted: not that of its {", ".join(others)}')


def _regions(head, number):
    try:
        size, channels = head.roi_feat_size, head.in_channels
    except AttributeError as error:
        raise UserError(f'the cost of {type(head).__name__} cannot be counted: it does not name the size and the '
                        f'channels of its regions ({error})') from error
    size = (size, size) if isinstance(size, int) else size
    return torch.empty(number, channels, *size, device='meta')


def default_shape(cfg: Config) -> tuple[int, int]:
    """Return the height and width at which a config's cost is counted.

    That is the published shape, or for other configs what the paper takes: 800 x 1280 for detectors, the height of the
    crop by four times that for segmentors, and the images of the test for classifiers.
    """
    row = recipe(cfg.filename)
    if row is not None:
        return tuple(row['flops_shape'])
    if is_classifier(cfg.model):
        return (_tested_side(cfg),) * 2
    if 'decode_head' not in cfg.model:
        return 800, 1280
    height = ((cfg.model.get('data_preprocessor') or {}).get('size') or (512, 512))[0]
    return height, 4 * height


def _tested_side(cfg):
    """Return the side of the images that a classifier gets in its test, or in its training where it has none."""
    loader = cfg.get('test_dataloader') or cfg.get('train_dataloader') or {}
    for transform in reversed((loader.get('dataset') or {}).get('pipeline') or []):
        for key in ('size', 'crop_size', 'scale'):
            side = transform.get(key)
            if side and type_name(transform) != 'ResizeEdge':
                return side if isinstance(side, int) else side[0]
    return 224


def count_config(cfg: Config, shape: Sequence[int] | None = None) -> dict:
    """Return the cost of a config's model, at ``shape`` or its default one, ready for JSON."""
    model = build_on_meta(cfg)
    shape = tuple(shape or default_shape(cfg))
    cost = count_model(model, shape, (cfg.model.get('backbone') or {}).get('in_channels', 3))
    return dict(shape=shape, parameters=cost.parameters, macs=cost.total, parts=cost.macs)


def count_classifier(arch: str, resolution: int) -> Cost:
    """Return the cost of a classifier of 1000 classes on a square image of ``resolution`` pixels a side."""
    with torch.device('meta'):
        backbone = ConvNeXt(arch, out_indices=(3,), out_norms=False)
        channels = backbone.channels[-1]
        model = torch.nn.Sequential(backbone, PooledLayerNorm(channels))
        head = torch.nn.Linear(channels, 1000)
        macs, features = count_macs(model, torch.empty(1, 3, resolution, resolution))
        model.append(head)
        return Cost(sum(p.numel() for p in model.parameters()),
                    dict(backbone=macs, head=count_macs(head, features[-1])[0]))


def count_published(configs: Path, progress: Callable[[str], Any] = lambda text: None) -> list[dict]:
    """Count every published cost again.

    Args:
        configs (Path): The folder `configs/`.
        progress (Callable): Called with the name of what is counted next.

    Returns:
        list[dict]: ``name``, ``parameters`` and ``macs`` with the published ``params_m`` and ``flops_g``, and a
        ``note`` where these are contradicted.
    """
    rows = []
    for row in published()['coco'] + published()['ade20k']:
        progress(row['config'])
        counted = count_config(Config.fromfile(Path(configs, row['config'])))
        rows.append(dict(name=row['config'], parameters=counted['parameters'], macs=counted['macs'],
                         params_m=row['params_m'], flops_g=row['flops_g'], note=''))
    return rows + [_count_row(row, progress) for row in published()['imagenet']]


def _count_row(row, progress):
    """Return a row of a classifier for :func:`count_published`."""
    name = f'{row["arch"]} at {row["resolution"]}, {row["pretrain"]}'
    progress(name)
    counted = count_classifier(row['arch'], row['resolution'])
    return dict(name=name, parameters=counted.parameters, macs=counted.total, params_m=row['params_m'],
                flops_g=row['flops_g'], note=_contradiction(row))


def _contradiction(row):
    """Return in words that the cost of a classifier is printed otherwise elsewhere; '' where it is not."""
    for entry in published_imagenet()['contradictions']:
        if (row['arch'], row['resolution']) == ('base', 384) and entry['what'] == (
                f'G multiply-adds of ConvNeXt-B at 384 from {row["pretrain"]}'):
            return (f'the paper prints {entry["paper"]}, its repository {entry["repository"]}; '
                    f'{entry["computed"]:.1f} is right')
    return ''


def format_published(rows: list[dict]) -> str:
    """Return a table of what :func:`count_published` returns."""
    def cells(row):
        giga = row['macs'] / 1e9
        return (row['name'] + ' (*)' * bool(row['note']), f'{row["parameters"] / 1e6:.2f}', row['params_m'],
                f'{giga:.2f}', row['flops_g'], f'{100 * (giga / row["flops_g"] - 1):+.2f} %')
    table = format_table(('', 'M parameters', 'published', 'G MACs', 'published', 'difference'), map(cells, rows))
    return '\n'.join([table, *(f'(*) {row["name"]}: {row["note"]}' for row in rows if row['note'])])


def format_cost(counted: dict) -> str:
    """Return a table of what :func:`count_config` returns."""
    rows = [*counted['parts'].items(), ('total', counted['macs'])]
    table = format_table(('part', 'G MACs'), ((name, f'{macs / 1e9:.2f}') for name, macs in rows))
    return f'{counted["parameters"]:,} parameters; at {counted["shape"][0]} x {counted["shape"][1]}\n{table}'
