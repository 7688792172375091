"""Small models with random weights, written once for all tests: config and checkpoint, and an exported file."""
import pytest

UPERNET, MASK_RCNN = 'configs/upernet/convnext_t_512_160k.py', 'configs/mask_rcnn/convnext_t_3x.py'
CASCADE = 'configs/cascade/convnext_t_3x.py'


def write(factory, name, config):
    # It imports mm, which torch 2.1 has not.
    from tests.helpers.exported import write_model
    return write_model(factory.mktemp(name), config)


@pytest.fixture(scope='session')
def upernet(tmp_path_factory):
    return write(tmp_path_factory, 'upernet', UPERNET)


@pytest.fixture(scope='session')
def mask_rcnn(tmp_path_factory):
    return write(tmp_path_factory, 'mask_rcnn', MASK_RCNN)


@pytest.fixture(scope='session')
def cascade(tmp_path_factory):
    return write(tmp_path_factory, 'cascade', CASCADE)


@pytest.fixture(scope='session')
def onnx_file(upernet, tmp_path_factory):
    """A segmentor's file, with logits."""
    from convnext_mm.apis.cli import main
    out = tmp_path_factory.mktemp('onnx') / 'model.onnx'
    assert main('export', [*upernet, str(out)]) == 0
    return out
