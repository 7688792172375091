"""int8: layers of an ONNX file in 8 bits, by ONNX Runtime's own tool; those stay in float32 that lose too much."""
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from convnext_mm.export.check import ExportError
from convnext_mm.export.formats import FACTS, open_onnx
from convnext_mm.export.kept import Counted, Inputs, Tried, compare_files
from convnext_mm.models.precision import LAST_LAYERS
from convnext_mm.utils.progress import Line

#: Layers with weights, which are quantised.
LAYERS = 'Conv', 'ConvTranspose', 'MatMul', 'Gemm'
#: What stays in float32, in the order in which it is tried. Layers with groups always stay: they are slower in int8.
KEPT = (('depthwise layers', ()), ('last and depthwise layers', LAST_LAYERS),
        ('last, depthwise and downsampling layers', (*LAST_LAYERS, 'downsample')))
#: Share of labels, and of detections, that must stay what they are in float32.
LEAST = {'labels': .99, 'detections': .9}


def quantise(path: Path, inputs: Inputs, what: Counted) -> list[Tried]:
    """Replace a file of ONNX by one in int8, with as few layers in float32 as lose little enough.

    Args:
        path (Path): The file, in float32.
        inputs (Sequence): At least two images; the activations' ranges are those of every second one, and what is lost
            is measured on the others.
        what (Counted): Labels or detections.

    Returns:
        list[Tried]: The file in float32 and those that were tried; the last one was written.

    Raises:
        ExportError: Even with all of ``KEPT`` in float32 too much is lost. The file stays.
    """
    exact, other = open_onnx(path), path.with_name(f'{path.stem}.int8{path.suffix}')
    tried = [Tried('all', 1., path.stat().st_size / 1e6, 0.)]
    least, line = LEAST[what.name], Line()
    try:
        for name, parts in KEPT:
            line.show(f'int8: {name} in float32')
            _write(path, other, inputs[::2], parts, name)
            share, times = compare_files([exact, open_onnx(other)], inputs[1::2], what)
            tried[0] = tried[0]._replace(milliseconds=times[0])
            tried.append(Tried(name, share, other.stat().st_size / 1e6, times[1]))
            if share >= least:
                os.replace(other, path)
                return tried
    finally:
        other.unlink(missing_ok=True)
    raise ExportError(f'in int8 {share:.1%} of the {what.name} are those of float32, {least:.0%} must be; nothing was '
                      'written')


def _write(source, target, inputs, parts, name):
    """Write a file in int8, but for layers of which a part of the name is among ``parts``."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    model = onnx.load(str(source))
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [node.name for node in model.graph.node if node.op_type in LAYERS and (
        node.input[1] not in constants or _has_groups(node) or any(part in node.name for part in parts))]
    names = [entry.name for entry in model.graph.input]

    class Reader(CalibrationDataReader):
        """Gives images to the tool, one by one."""

        def __init__(self):
            self.left: Iterator[Any] = iter(inputs)

        def get_next(self):
            """Return the next inputs by name, or None."""
            return next((dict(zip(names, map(np.asarray, entry))) for entry in self.left), None)

    # Products give float32, as what follows them takes that: one rounding less, and no time for it.
    quantize_static(str(source), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    op_types_to_quantize=list(LAYERS), nodes_to_exclude=kept, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    extra_options=dict(OpTypesToExcludeOutputQuantization=['MatMul', 'Gemm']))
    facts = next((json.loads(entry.value) for entry in model.metadata_props if entry.key == FACTS), {})
    written = onnx.load(str(target))
    onnx.helper.set_model_props(written, {FACTS: json.dumps(dict(facts, int8=f'all but {name}'))})
    onnx.save(written, str(target))


def _has_groups(node):
    return any(entry.name == 'group' and entry.i > 1 for entry in node.attribute)
