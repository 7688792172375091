"""Weights in float16: half of the size. They are made float32 again when a file is opened, so the time is the same."""
import json
import os
from pathlib import Path

import numpy as np

from convnext_mm.export.check import ExportError
from convnext_mm.export.formats import FACTS, files_of, find_format, openvino_core
from convnext_mm.export.kept import Counted, Inputs, Tried, compare_files
from convnext_mm.export.quantise import LAYERS

#: Share of labels, detections or values that must stay what they are in float32. Of random detectors, in which many
#: boxes have nearly the same score, 92 and 99 % of the detections stayed.
LEAST = {'labels': .999, 'detections': .9, 'values': .999}


def halve(path: Path, inputs: Inputs, what: Counted) -> list[Tried]:
    """Replace a file by one with weights in float16.

    Args:
        path (Path): The file, with weights in float32.
        inputs (Sequence): Images on which both are compared.
        what (Counted): What of their results is counted.

    Returns:
        list[Tried]: The file as it was, and that which was written.

    Raises:
        ExportError: Too much is lost. The file stays.
    """
    form, other = find_format(path), path.with_name(f'{path.stem}.half{path.suffix}')
    try:
        WRITE[path.suffix](path, other, dict(form.read_facts(path) or {}, half='weights'))
        share, times = compare_files([form.open(path), form.open(other)], inputs, what)
        sizes = [sum(part.stat().st_size for part in files_of(file)) / 1e6 for file in (path, other)]
        tried = [Tried('all', 1., sizes[0], times[0]), Tried('all but stored weights', share, sizes[1], times[1])]
        if share < LEAST[what.name]:
            raise ExportError(f'with weights in float16 {share:.2%} of the {what.name} are those of float32, '
                              f'{LEAST[what.name]:.1%} must be; nothing was written')
        for new, old in zip(files_of(other), files_of(path)):
            os.replace(new, old)
    finally:
        for file in files_of(other):
            file.unlink(missing_ok=True)
    return tried


def _halve_onnx(source, target, facts):
    """Write a file of ONNX with a Cast after each weight, which runtimes fold when they open it."""
    import onnx
    model = onnx.load(str(source))
    layers, casts = {node.input[1] for node in model.graph.node if node.op_type in LAYERS}, []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor) if tensor.name in layers else np.zeros(1)
        # Beyond its range, float16 has infinity alone.
        if values.dtype == np.float32 and np.abs(values).max(initial=0) <= np.finfo(np.float16).max:
            casts.append(onnx.helper.make_node('Cast', [f'{tensor.name}.half'], [tensor.name],
                                               to=onnx.TensorProto.FLOAT))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f'{tensor.name}.half'))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.helper.set_model_props(model, {FACTS: json.dumps(facts)})
    onnx.save(model, str(target))


def _halve_openvino(source, target, facts):
    import openvino
    model = openvino_core().read_model(str(source))
    model.set_rt_info(json.dumps(facts), FACTS)
    openvino.save_model(model, str(target), compress_to_fp16=True)


WRITE = {'.onnx': _halve_onnx, '.xml': _halve_openvino}
