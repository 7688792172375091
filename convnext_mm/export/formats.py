"""The formats of exported files: how each is written, and run by its runtime."""
import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from convnext_mm.utils.errors import UserError

#: Under this name a file holds what ``write`` was given as ``facts``.
FACTS = 'convnext_mm'
#: What a format has beside the file that is named: the file's ending, and that of the other.
COMPANIONS = {'.xml': '.bin'}
#: The operators of ONNX that files use.
OPSET = 17
#: Axes of images, ``(N, 3, H, W)``, that vary.
AXES = {0: 'n', 2: 'h', 3: 'w'}
#: torch.export takes images of at least so many pixels a side: two on the coarsest map, of stride 64.
SMALLEST = 65

Run = Callable[..., list[np.ndarray]]


class Graph(NamedTuple):
    """A module to export, with what an exporter has to know of it.

    Attributes:
        module (nn.Module): Takes images, and where ``resizes`` a height and a width; returns a tuple of tensors.
        images (Tensor): An example, ``(N, 3, H, W)``.
        resizes (bool): Whether it takes a size.
        outputs (tuple[str, ...]): Names of the results.
    """

    module: nn.Module
    images: Tensor
    resizes: bool
    outputs: tuple[str, ...]


class Format(NamedTuple):
    """How a format is written and run.

    Attributes:
        needs (tuple[str, ...]): Packages of the extra ``export`` that it takes.
        write (Callable): ``write(graph, path, facts)``.
        open (Callable): ``open(path)`` returns a function of images and sizes, NumPy arrays in and out.
        read_facts (Callable): ``read_facts(path)`` returns the facts, or None.
    """

    needs: tuple[str, ...]
    write: Callable[[Graph, Path, dict], None]
    open: Callable[[Path], Run]
    read_facts: Callable[[Path], dict | None]

    def versions(self) -> dict[str, str]:
        """Return the versions of torch and of the packages that the format takes."""
        return {name: importlib.metadata.version(name) for name in ('torch', *self.needs)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what exporters say about checks of sizes, which hold for the example alone; the check of the file tells."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def write_onnx(graph: Graph, path: Path, facts: dict) -> None:
    """Write a graph for ONNX Runtime and whatever else reads ONNX."""
    import onnx
    inputs: tuple = (graph.images,)
    names = ['images']
    if graph.resizes:
        inputs, names = (*inputs, torch.tensor(graph.images.shape[2:])), [*names, 'size']
    # By tracing: sizes stay open whatever a head does in Python with them.
    with _quiet():
        torch.onnx.export(graph.module, inputs, str(path), input_names=names, output_names=list(graph.outputs),
                          opset_version=OPSET, dynamo=False, dynamic_axes={'images': AXES})
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {FACTS: json.dumps(facts)})
    onnx.save(model, str(path))


def open_onnx(path: Path) -> Run:
    """Return a file of ONNX as a function, run by ONNX Runtime on the CPU."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait busily take the processor from those that work.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    names = [entry.name for entry in session.get_inputs()]
    return lambda images, size=None: session.run(None, dict(zip(names, (images, np.array(size)))))


def _onnx_facts(path):
    import onnx
    model = onnx.load(str(path), load_external_data=False)
    return next((json.loads(entry.value) for entry in model.metadata_props if entry.key == FACTS), None)


def write_pt2(graph: Graph, path: Path, facts: dict) -> None:
    """Write a graph by ``torch.export``."""
    vary = torch.export.Dim.DYNAMIC
    dims = {0: torch.export.Dim('n'), **{axis: torch.export.Dim(AXES[axis], min=SMALLEST) for axis in (2, 3)}}
    inputs: tuple = (graph.images,)
    shapes: tuple = (dims,)
    if graph.resizes:
        inputs, shapes = (*inputs, tuple(graph.images.shape[2:])), (*shapes, (vary, vary))
    with _quiet(), torch.no_grad():
        # What cannot be proved of every size, such as that of a map after padding, is asserted when the file runs.
        program = torch.export.export(graph.module, inputs, dynamic_shapes=shapes, strict=False,
                                      prefer_deferred_runtime_asserts_over_guards=True)
        torch.export.save(program, str(path), extra_files={FACTS: json.dumps(facts)})


def _load_pt2(path, **settings):
    with contextlib.suppress(ImportError):
        # Detectors use its operators.
        import torchvision  # noqa: F401 -- registers them
    return torch.export.load(str(path), **settings)


def open_pt2(path: Path) -> Run:
    """Return a file of ``torch.export`` as a function."""
    module = _load_pt2(path).module()

    def run(images, size=None):
        with torch.no_grad():
            results = module(torch.from_numpy(images), *(() if size is None else (tuple(map(int, size)),)))
        return [result.numpy() for result in results]
    return run


def _pt2_facts(path):
    extra = {FACTS: ''}
    _load_pt2(path, extra_files=extra)
    return json.loads(extra[FACTS]) if extra[FACTS] else None


def write_openvino(graph: Graph, path: Path, facts: dict) -> None:
    """Write a graph for OpenVINO, ``path`` and the weights beside it in a file of the ending ``.bin``."""
    import openvino
    onnx_file = path.with_suffix('.onnx')
    try:
        write_onnx(graph, onnx_file, facts)
        model = openvino.convert_model(str(onnx_file))
        model.set_rt_info(json.dumps(facts), FACTS)
        openvino.save_model(model, str(path), compress_to_fp16=False)
    finally:
        onnx_file.unlink(missing_ok=True)


@functools.cache
def openvino_core() -> Any:
    """Return the ``openvino.Core`` of this process.

    Each has a stack for signals, which it frees when it goes. Where two overlap, the process may be left with a stack
    that is freed, and the next signal, such as that of a subprocess that ends, stops it.
    """
    import openvino
    return openvino.Core()


def open_openvino(path: Path, precision: str = 'f32') -> Run:
    """Return a file of OpenVINO as a function, run in float32, which its CPU plugin does not choose by itself."""
    model = openvino_core().compile_model(str(path), 'CPU', {'INFERENCE_PRECISION_HINT': precision})

    def run(images, size=None):
        inputs = [images] if size is None else [images, np.array(size)]
        return [result.copy() for result in model(inputs).values()]
    return run


def _openvino_facts(path):
    model = openvino_core().read_model(str(path))
    return json.loads(model.get_rt_info(FACTS).astype(str)) if model.has_rt_info(FACTS) else None


FORMATS = {
    '.onnx': Format(('onnx', 'onnxruntime'), write_onnx, open_onnx, _onnx_facts),
    '.pt2': Format((), write_pt2, open_pt2, _pt2_facts),
    '.xml': Format(('onnx', 'openvino'), write_openvino, open_openvino, _openvino_facts),
}


def files_of(path: Path) -> list[Path]:
    """Return the files that an exported one consists of."""
    return [path, *(path.with_suffix(COMPANIONS[ending]) for ending in (path.suffix,) if ending in COMPANIONS)]


def find_format(path: str | Path) -> Format:
    """Return the format of a file's ending.

    Raises:
        UserError: There is none, or a package that it takes is missing.
    """
    form = FORMATS.get(Path(path).suffix)
    if form is None:
        raise UserError(f'{str(path)!r} has none of the endings {", ".join(FORMATS)}, which choose the format')
    missing = [name for name in form.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'{Path(path).suffix} needs {" and ".join(missing)}, which is not installed: pip install '
                        "'convnext_mm[export]'")
    return form
