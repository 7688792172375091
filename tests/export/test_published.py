"""The published configs, whole: what is exported of each does what the model does, with random weights."""
import pytest
import torch

pytest.importorskip('mmseg', reason='the models are of mmseg and mmdet')
pytest.importorskip('mmdet', reason='the models are of mmseg and mmdet')
pytest.importorskip('onnxruntime', reason='the extra "export" is not installed')

from mmengine.config import Config

from convnext_mm.export.check import format_check
from convnext_mm.export.export import detector, export, segmentor
from convnext_mm.export.formats import find_format
from convnext_mm.utils.configs import is_segmentor
from tests.helpers.exported import build_random
from tests.helpers.paths import ROOT

#: The smallest first. `make test` exports none: those of tests/export/test_export.py have the same parts.
CONFIGS = sorted((path for name in ('upernet', 'mask_rcnn', 'cascade')
                  for path in (ROOT / 'configs' / name).glob('convnext_*.py')),
                 key=lambda path: ('tsblx'.index(path.stem[9]), path.parent.name != 'upernet', path))


def check_published(path, folder):
    """Return the table of the check of a config's model; detectors take 100 proposals, so that it ends in minutes."""
    cfg = Config.fromfile(path)
    cfg.model.backbone.pop('init_cfg', None)
    if is_segmentor(cfg.model):
        cfg.model.auxiliary_head = None
        # SyncBN as the config has it: the models are taken apart from processes before the export.
    else:
        cfg.model.test_cfg.rpn.update(nms_pre=100, max_per_img=100)
    model = build_random(cfg)
    subject = segmentor(model, True) if is_segmentor(cfg.model) else detector(model)
    out = folder / f'{path.parent.name}_{path.stem}.onnx'
    rows = export(subject, find_format(out), out, {})
    assert not subject.remark()
    size = out.stat().st_size
    out.unlink()
    return f'{path.parent.name}/{path.stem}, {size / 1e6:.0f} MB\n{format_check(subject.columns, rows)}'


@pytest.mark.long
@pytest.mark.filterwarnings('ignore')
def test_published_models_are_exported(tmp_path, record_property, size):
    assert len(CONFIGS) == 13
    tables = []
    for path in CONFIGS[:size(0, 13)]:
        with torch.no_grad():
            tables.append(check_published(path, tmp_path))
    record_property('tally', '\n'.join(('', *tables)))
