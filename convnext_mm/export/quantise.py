"""int8: layers of an ONNX file in 8 bits, by ONNX Runtime's own tool; those stay in float32 that lose too much."""
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from convnext_mm.export.check import ExportError
from convnext_mm.export.formats import FACTS, Run, open_onnx
from convnext_mm.utils.progress import Line
from convnext_mm.utils.text import format_table

#: Layers with weights, which are quantised.
LAYERS = 'Conv', 'ConvTranspose', 'MatMul', 'Gemm'
#: Parts of layers' names, by what they are: the last layers of heads, depthwise convolutions, those between stages.
_LAST = 'conv_seg', 'fc_cls', 'fc_reg', 'rpn_cls', 'rpn_reg', 'conv_logits'
#: What stays in float32, in the order in which it is tried.
KEPT = (('nothing', ()), ('the last layers', _LAST), ('last and depthwise layers', (*_LAST, 'dwconv')),
        ('last, depthwise and downsampling layers', (*_LAST, 'dwconv', 'downsample')))
#: Share of labels, and of detections from ``SCORE`` on, that must stay what they are in float32.
LABELS, DETECTIONS, SCORE, OVERLAP = .99, .9, .3, .75

#: An image, ``(1, 3, H, W)``, and the size of the result for a segmentor.
Inputs = Sequence[tuple[NDArray, ...]]


class Tried(NamedTuple):
    """What was found of a quantised file.

    Attributes:
        kept (str): What stayed in float32.
        share (float): Of labels or detections that stayed what they were.
        megabytes (float): Size.
        milliseconds (float): Time of an image, the median.
    """

    kept: str
    share: float
    megabytes: float
    milliseconds: float


def quantise(path: Path, inputs: Inputs, segments: bool) -> list[Tried]:
    """Replace a file of ONNX by one in int8, with as few layers in float32 as lose little enough.

    Args:
        path (Path): The file, in float32.
        inputs (Sequence): At least two images; the activations' ranges are those of every second one, and what is lost
            is measured on the others.
        segments (bool): Whether the file returns labels, not detections.

    Returns:
        list[Tried]: The file in float32 and those that were tried; the last one was written.

    Raises:
        ExportError: Even with all of ``KEPT`` in float32 too much is lost. The file stays.
    """
    held, exact, other = inputs[1::2], open_onnx(path), path.with_name(f'{path.stem}.int8{path.suffix}')
    tried = [Tried('all', 1., path.stat().st_size / 1e6, 0.)]
    least, line = LABELS if segments else DETECTIONS, Line()
    try:
        for name, parts in KEPT:
            line.show(f'int8: {name} in float32')
            _write(path, other, inputs[::2], parts, name)
            results, times = _run_all([exact, open_onnx(other)], held)
            share = float(np.mean([(_labels_kept if segments else _detections_kept)(*pair) for pair in zip(*results)]))
            tried[0] = tried[0]._replace(milliseconds=times[0])
            tried.append(Tried(name, share, other.stat().st_size / 1e6, times[1]))
            if share >= least:
                os.replace(other, path)
                return tried
    finally:
        other.unlink(missing_ok=True)
    raise ExportError(f'in int8 {share:.1%} of the {"labels" if segments else "detections"} are those of float32, '
                      f'{least:.0%} must be; nothing was written')


def _write(source, target, inputs, parts, name):
    """Write a file in int8, but for layers of which a part of the name is among ``parts``."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    model = onnx.load(str(source))
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [node.name for node in model.graph.node if node.op_type in LAYERS and (
        node.input[1] not in constants or any(part in node.name for part in parts))]
    names = [entry.name for entry in model.graph.input]

    class Reader(CalibrationDataReader):
        """Gives images to the tool, one by one."""

        def __init__(self):
            self.left: Iterator[Any] = iter(inputs)

        def get_next(self):
            """Return the next inputs by name, or None."""
            return next((dict(zip(names, map(np.asarray, entry))) for entry in self.left), None)

    quantize_static(str(source), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    op_types_to_quantize=list(LAYERS), nodes_to_exclude=kept, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8)
    facts = next((json.loads(entry.value) for entry in model.metadata_props if entry.key == FACTS), {})
    written = onnx.load(str(target))
    onnx.helper.set_model_props(written, {FACTS: json.dumps(dict(facts, int8=f'all but {name}'))})
    onnx.save(written, str(target))


def _run_all(runs: Sequence[Run], inputs: Inputs) -> tuple[list[list], list[float]]:
    """Return the results of each file for each image, and its milliseconds, the median; files take turns."""
    results: list[list] = [[] for _ in runs]
    times: list[list] = [[] for _ in runs]
    for entry in inputs:
        for number, run in enumerate(runs):
            start = time.perf_counter()
            results[number].append(run(*entry))
            times[number].append((time.perf_counter() - start) * 1e3)
    return results, [statistics.median(row) for row in times]


def _labels_kept(expected, found):
    return (expected[0] == found[0]).mean()


def _detections_kept(expected, found):
    """Return which share of an image's detections has one of the same class in nearly the same place."""
    from torchvision.ops import box_iou
    certain = np.flatnonzero(expected[1][0][:int(expected[3][0])] >= SCORE)
    if not len(certain):
        return 1.
    count = int(found[3][0])
    overlaps = box_iou(torch.from_numpy(expected[0][0][certain]), torch.from_numpy(found[0][0][:count])).numpy()
    same = expected[2][0][certain, None] == found[2][0][None, :count]
    return (same & (overlaps >= OVERLAP)).any(1).mean()


def format_tried(tried: Sequence[Tried], segments: bool) -> str:
    """Return what :func:`quantise` tried as a table."""
    rows = [(row.kept, f'{row.share:.2%}', f'{row.megabytes:.1f}', f'{row.milliseconds:.1f}') for row in tried]
    return format_table(('in float32', f'same {"labels" if segments else "detections"}', 'MB', 'ms an image'), rows)
