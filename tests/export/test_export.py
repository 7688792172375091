"""The command that exports: files that do what the model does, and one line where nothing is written."""
import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg', reason='segmentors are of mmseg')
pytest.importorskip('onnxruntime', reason='the extra "export" is not installed')

from convnext_mm.apis.cli import main
from convnext_mm.export import exportable
from convnext_mm.export.formats import FORMATS
from tests.helpers.exported import write_model
from tests.helpers.paths import ROOT

UPERNET = 'configs/upernet/convnext_t_512_160k.py'


def assert_says_what_it_is(out, config, part):
    text = out.with_name(f'{out.name}.txt').read_text()
    assert 'torch 2' in text and 'backbone=dict' in text
    assert len([line for line in text.splitlines() if line[:4] in ('1 x ', '2 x ')]) == 5
    facts = FORMATS[out.suffix].read_facts(out)
    assert (facts['config'], facts['part']) == (config, part)
    if part == 'whole':
        assert (facts['mode'], facts['crop_size']) in (('slide', [64, 64]), ('whole', [64, 64]), ('whole', None))
        assert facts['steps'][0]['type'] == 'LoadImageFromFile'


def test_onnx_file_gives_labels_of_any_size(upernet, onnx_file):
    assert_says_what_it_is(onnx_file, upernet[0], 'whole')
    labels, logits = FORMATS['.onnx'].open(onnx_file)(np.zeros((1, 3, 70, 90), np.uint8), (50, 60))
    assert labels.shape == (1, 50, 60) and logits.shape == (1, 150, 50, 60)


def test_script_of_the_page_needs_no_torch(onnx_file, tmp_path):
    script, = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'deploy.md').read_text(), re.S)
    assert len(script.splitlines()) <= 30
    (tmp_path / 'script.py').write_text(script)
    for name in ('torch', 'mmcv', 'mmengine', 'mmseg', 'mmdet', 'convnext_mm'):
        (tmp_path / f'{name}.py').write_text('raise ImportError')
    Image.fromarray(np.arange(90 * 70 * 3, dtype=np.uint32).astype(np.uint8).reshape(70, 90, 3)).save(
        tmp_path / 'in.png')
    run = subprocess.run([sys.executable, 'script.py', str(onnx_file), 'in.png', 'out.png'], cwd=tmp_path, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.returncode == 0, run.stdout
    assert sum(map(int, re.findall(r'\d+', run.stdout.splitlines()[-1]))) == 70 * 90
    assert Image.open(tmp_path / 'out.png').size == (90, 70)


SOFT, WHOLE = 'model.test_cfg.rcnn.nms.type=soft_nms', 'model.test_cfg.mode=whole'
DETECTIONS = 'boxes', 'scores', 'labels', 'count', 'masks'
#: Ending, model, arguments, and the results, of which windows take the logits; the first two in `make test`.
FILES = (
    ('.onnx', 'cascade', ('--nms', 'hard', '--cfg-options', SOFT), DETECTIONS),
    ('.xml', 'mask_rcnn', ('--part', 'backbone', '--half'), ('stage0', 'stage1', 'stage2', 'stage3')),
    ('.xml', 'upernet', (), ('labels', 'logits')),
    ('.onnx', 'mask_rcnn', ('--half',), DETECTIONS),
    ('.onnx', 'upernet', ('--cfg-options', WHOLE), ('labels',)),
    ('.onnx', 'mask_rcnn', (), DETECTIONS),
    ('.xml', 'mask_rcnn', (), DETECTIONS),
    ('.pt2', 'mask_rcnn', (), DETECTIONS),
    ('.pt2', 'upernet', ('--logits', '--cfg-options', WHOLE), ('labels', 'logits')),
    ('.pt2', 'mask_rcnn', ('--part', 'backbone'), ('stage0', 'stage1', 'stage2', 'stage3')),
)


@pytest.mark.long
@pytest.mark.filterwarnings('ignore')
def test_file_is_checked_and_says_what_it_is(request, tmp_path, capsys, size):
    for number, (ending, name, arguments, outputs) in enumerate(FILES[:size(2, len(FILES))]):
        config, checkpoint = request.getfixturevalue(name)
        out = tmp_path / str(number) / f'model{ending}'
        assert main('export', [config, checkpoint, str(out), *arguments]) == 0
        assert 'agrees with PyTorch' in capsys.readouterr().out
        part = 'backbone' if '--part' in arguments else 'whole'
        assert ('half' in FORMATS[ending].read_facts(out)) == ('--half' in arguments)
        assert_says_what_it_is(out, config, part)
        images = np.zeros((1, 3, 70, 90), np.uint8 if part == 'whole' else np.float32)
        results = FORMATS[ending].open(out)(images, *(((50, 60),) if name == 'upernet' else ()))
        assert len(results) == len(outputs) and tuple(FORMATS[ending].read_facts(out)['outputs']) == outputs


REFUSED = (
    ('upernet', 'model.pth', (), r"model\.pth' has none of the endings \.onnx, \.pt2, \.xml"),
    ('upernet', 'there.onnx', (), r'there\.onnx. is there already.*--force'),
    ('upernet', 'there.onnx/m.onnx', (), r'cannot be written'),
    ('upernet', 'm.onnx', ('--images', 'none.png'), r"--images: 'none\.png' is no file"),
    ('upernet', 'm.onnx', ('--part', 'backbone', '--logits'), r'--logits is for whole segmentors'),
    ('upernet', 'm.xml', ('--int8',), r'--int8 is for whole models in \.onnx'),
    ('upernet', 'm.onnx', ('--int8', '--cfg-options', 'test_dataloader=None'), r'has no test_dataloader'),
    ('upernet', 'm.onnx', ('--int8', '--half'), r'--half is for files in float'),
    ('upernet', 'm.pt2', ('--half',), r'--half is for \.onnx and \.xml'),
    ('upernet', 'm.onnx', ('--nms', 'hard'), r'--nms is for whole detectors'),
    ('mask_rcnn', 'm.onnx', ('--cfg-options', SOFT),
     r'model\.test_cfg\.rcnn\.nms\.type=soft_nms cannot be exported.*--nms hard'),
    ('upernet', 'm.onnx', ('--cfg-options', 'model.data_preprocessor.test_cfg.size_divisor=32'),
     r'model\.data_preprocessor\.test_cfg cannot be exported: with model\.test_cfg\.mode=slide'),
    ('mask_rcnn', 'm.onnx', ('--cfg-options', 'model.roi_head.mask_head.type=HTCMaskHead',
                             'model.roi_head.mask_head.with_conv_res=False'),
     r'model\.roi_head\.mask_head=HTCMaskHead cannot be exported: taken are FCNMaskHead'),
    ('mask_rcnn', 'm.onnx', ('--cfg-options', 'model.roi_head.bbox_head.bbox_coder.clip_border=False'),
     r'model\.roi_head\.bbox_head\.bbox_coder\.clip_border=False cannot be exported: taken is True'),
    ('mask_rcnn', 'm.onnx', ('--cfg-options', 'model.test_cfg.rpn.nms.max_num=9'),
     r'model\.test_cfg\.rpn\.nms\.max_num cannot be exported'),
    ('upernet', 'm.onnx', ('--cfg-options', 'model.decode_head.colour=red'),
     r'the model of the config cannot be built: TypeError: .*colour'),
    ('other checkpoint', 'm.onnx', (), r'the checkpoint holds a|does not fit'),
    ('head', 'm.onnx', (), r'model\.decode_head=APCHead cannot be exported to \.onnx'),
)


@pytest.mark.parametrize(('name', 'out', 'arguments', 'message'), REFUSED)
@pytest.mark.filterwarnings('ignore')
def test_refusal_is_one_line_and_leaves_nothing(request, tmp_path, capsys, name, out, arguments, message):
    if name == 'other checkpoint':
        config, checkpoint = request.getfixturevalue('upernet')[0], request.getfixturevalue('mask_rcnn')[1]
    elif name == 'head':
        (tmp_path / 'in').mkdir()
        config, checkpoint = write_model(tmp_path / 'in', UPERNET, **{'model.decode_head': dict(
            _delete_=True, type='APCHead', in_channels=32, in_index=3, channels=16, pool_scales=(1, 2), num_classes=5,
            norm_cfg=dict(type='BN'))})
    else:
        config, checkpoint = request.getfixturevalue(name)
    folder = tmp_path / 'out'
    folder.mkdir()
    (folder / 'there.onnx').write_text('before')
    code = main('export', [config, checkpoint, str(folder / out), *arguments])
    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and re.search(message, error), error
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [('there.onnx', 'before')]


@pytest.mark.parametrize('content', [b'', b'some text', bytes(range(256)), b'PK\x03\x04' + bytes(99)])
@pytest.mark.filterwarnings('always')
def test_a_damaged_checkpoint_is_one_line_and_no_other(upernet, tmp_path, capsys, recwarn, content):
    (tmp_path / 'x.pth').write_bytes(content)
    assert main('export', [upernet[0], str(tmp_path / 'x.pth'), str(tmp_path / 'out/model.onnx')]) == 2
    said = capsys.readouterr()
    assert said.out == '' and said.err.count('\n') == 1 and 'x.pth' in said.err, said.err
    # pytest takes them from stderr.
    assert [str(warning.message) for warning in recwarn if warning.category is UserWarning] == []
    assert [path.name for path in tmp_path.iterdir()] == ['x.pth']


def test_file_that_departs_is_not_written(upernet, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(exportable.AdaptivePool, 'forward',
                        lambda self, x: x.new_zeros(1, 1, 1, 1) + x.mean((2, 3), True))
    assert main('export', [*upernet, str(tmp_path / 'model.onnx')]) == 2
    assert 'departs from PyTorch at images of 2 x 96 x 128' in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(upernet, tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *rest: None if name == 'onnx' else found(name, *rest))
    assert main('export', [*upernet, str(tmp_path / 'model.onnx')]) == 2
    assert "needs onnx, which is not installed: pip install 'convnext_mm[export]'" in capsys.readouterr().err
