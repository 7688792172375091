"""The backbone in every format that its peers export to: exact at sizes and batches other than those of the export."""
import io

import pytest
import torch

from convnext_mm import ConvNeXt
from convnext_mm.export.formats import openvino_core
from tests.helpers.models import randomise, relative_difference

onnxruntime = pytest.importorskip('onnxruntime', reason='the extra "export" is not installed')
pytest.importorskip('onnxscript', reason='the extra "export" is not installed')
openvino = pytest.importorskip('openvino', reason='the extra "export" is not installed')

ARCH = dict(depths=(1, 1, 2, 1), channels=(8, 16, 24, 32))
#: The first two have everything between them.
BACKBONES = (
    dict(output_stride=8, compile=True, frozen_stages=2, out_indices=(0, 2, 3)),
    dict(use_grn=True, layer_scale_init_value=0, output_stride=16, with_cp=True, memory_format='contiguous_format'),
    dict(),
    dict(use_grn=True, layer_scale_init_value=0),
    dict(output_stride=16),
    dict(output_stride=8),
    dict(compile=True),
    dict(with_cp=True),
    dict(frozen_stages=2),
    dict(out_indices=(1,)),
)
EXAMPLE = 2, 3, 64, 96
#: N, H and W of what the exported model is given; torch.export takes images of at least two pixels a side on a map.
SIZES = (1, 64, 64), (2, 64, 96), (1, 75, 131), (3, 100, 65), (1, 160, 72)
SMALLEST = 64


def build(kwargs):
    model = randomise(ConvNeXt(ARCH, **kwargs)).eval()
    for parameter in model.parameters():
        # So that what is behind the stem counts.
        parameter.data.mul_(5 if parameter.ndim > 1 else 1)
    return model


def images(n, h, w):
    return torch.randn(n, 3, h, w, generator=torch.Generator().manual_seed(n * h * w))


def dims():
    return {0: torch.export.Dim('n'), 2: torch.export.Dim('h', min=SMALLEST), 3: torch.export.Dim('w', min=SMALLEST)}


def run_onnx(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {session.get_inputs()[0].name: x.numpy()})]


def onnx_torchscript(model, x):
    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, input_names=['x'], dynamo=False, opset_version=17,
                      dynamic_axes={'x': {0: 'n', 2: 'h', 3: 'w'}})
    return run_onnx(file)


def onnx(model, x):
    file = io.BytesIO()
    torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=(dims(),), verbose=False).save(file)
    return run_onnx(file)


def export(strict):
    return lambda model, x: torch.export.export(model, (x,), dynamic_shapes=(dims(),), strict=strict).module()


def trace(model, x):
    return torch.jit.trace(model, x)


def to_openvino(model, x):
    converted = openvino.convert_model(model, example_input=x, input=[-1, 3, -1, -1])
    compiled = openvino_core().compile_model(converted, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda x: [torch.from_numpy(y.copy()) for y in compiled(x.numpy()).values()]


EXPORTERS = {'onnx, TorchScript': onnx_torchscript, 'onnx': onnx, 'torch.export': export(False),
             'torch.export, strict': export(True), 'jit.trace': trace, 'openvino': to_openvino}


@pytest.mark.long
@pytest.mark.parametrize('exporter', EXPORTERS)
@pytest.mark.filterwarnings('ignore')
def test_exported_backbone_is_exact_at_other_sizes(exporter, size):
    # torch.export takes several seconds for each.
    for kwargs in BACKBONES[:size(1 if 'strict' in exporter else 2, len(BACKBONES))]:
        model = build(kwargs)
        exported = EXPORTERS[exporter](model, torch.randn(EXAMPLE, generator=torch.Generator().manual_seed(0)))
        reference = build({**kwargs, 'compile': False, 'with_cp': False})
        for shape in SIZES:
            x = images(*shape)
            with torch.no_grad():
                expected, got = reference(x), exported(x)
            assert len(expected) == len(got)
            for wanted, found in zip(expected, got):
                assert relative_difference(found, wanted) < 1e-5, (kwargs, shape)
