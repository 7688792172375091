"""The graph of a segmentor is what mmseg makes of whole images, with every setting of its preprocessing."""
import pytest
import torch

pytest.importorskip('mmseg', reason='the graph is that of a model of mmseg')

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from convnext_mm.export.segmentor import SegmentorGraph, predict
from tests.helpers.exported import randomise_whole
from tests.helpers.paths import ROOT
from tests.helpers.small import shrink

CASES = {
    'as it is': {},
    'padded to a multiple': {'data_preprocessor.test_cfg': dict(size_divisor=32)},
    'padded to a size': {'data_preprocessor.test_cfg': dict(size=(128, 80)), 'data_preprocessor.pad_val': 2},
    'BGR': {'data_preprocessor.bgr_to_rgb': False},
    'not normalised': {'data_preprocessor.mean': None, 'data_preprocessor.std': None},
    'aligned corners': {'decode_head.align_corners': True},
    'one class': {'decode_head.num_classes': 2, 'decode_head.out_channels': 1, 'decode_head.threshold': .4},
}


@pytest.mark.parametrize('options', CASES.values(), ids=CASES)
def test_graph_is_what_mmseg_predicts(options):
    cfg = shrink(Config.fromfile(ROOT / 'configs/upernet/convnext_t_512_160k.py'))
    cfg.model.auxiliary_head = None
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    init_default_scope('mmseg')
    torch.manual_seed(0)
    cfg.model.decode_head.norm_cfg.type = 'BN'
    model = randomise_whole(MODELS.build(cfg.model)).eval()
    images = torch.randint(0, 256, (2, 3, 75, 101), dtype=torch.uint8)
    with torch.no_grad():
        if model.out_channels == 1:
            # So that half of the pixels are of the class.
            model.decode_head.threshold = predict(model, images, (110, 140))[1].sigmoid().median().item()
        labels, logits = SegmentorGraph(model, logits=True)(images, (110, 140))
        expected = predict(model, images, (110, 140))
    assert len(expected[0].unique()) > 1
    torch.testing.assert_close(logits, expected[1], rtol=1e-5, atol=1e-6)
    assert (labels == expected[0]).float().mean() > .9999
