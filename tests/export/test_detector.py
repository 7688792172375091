"""The graph of a detector finds exactly what mmdet finds, image by image and in batches."""
import pytest
import torch

pytest.importorskip('mmdet', reason='the graph is that of a model of mmdet')

from mmengine.config import Config

from convnext_mm.export.check import CASES, ExportError, images_of
from convnext_mm.export.detections import Comparison, predict
from convnext_mm.export.export import detector
from tests.helpers.exported import DENSE, build_random, make_dense
from tests.helpers.paths import ROOT
from tests.helpers.small import shrink

CASES_OF_MODELS = {
    'Mask R-CNN': ('mask_rcnn', {}),
    'Cascade Mask R-CNN, boxes for each class': ('cascade', {}),
    'agnostic boxes': ('mask_rcnn', {'roi_head.bbox_head.reg_class_agnostic': True}),
    'agnostic masks': ('mask_rcnn', {'roi_head.mask_head.class_agnostic': True}),
    'without masks': ('mask_rcnn', {'type': 'FasterRCNN', 'roi_head.mask_head': None,
                                    'roi_head.mask_roi_extractor': None}),
    'few proposals': ('mask_rcnn', {'test_cfg.rpn.nms_pre': 20, 'test_cfg.rpn.max_per_img': 7}),
    'fewer than asked for': ('mask_rcnn', {'test_cfg.rcnn.score_thr': .7}),
    'Dynamic R-CNN': ('mask_rcnn', {'roi_head.type': 'DynamicRoIHead',
                                    'roi_head.bbox_head.loss_bbox.type': 'SmoothL1Loss'}),
    'PISA': ('mask_rcnn', {'roi_head.type': 'PISARoIHead'}),
    **{kind: (kind, {}) for kind in DENSE},
    'FreeAnchor': ('RetinaNet', {'bbox_head.type': 'FreeAnchorRetinaHead'}),
    'PISA of one stage': ('RetinaNet', {'bbox_head.type': 'PISARetinaHead'}),
    'norms for each level': ('RetinaNet', {'bbox_head.type': 'RetinaSepBNHead', 'bbox_head.num_ins': 5,
                                           'bbox_head.norm_cfg': dict(type='BN')}),
}


def build(name, options):
    """Build the small model of a family, with options; or of Mask R-CNN's parts a detector of one stage."""
    cfg = shrink(Config.fromfile(ROOT / f'configs/{"mask_rcnn" if name in DENSE else name}/convnext_t_3x.py'))
    if name in DENSE:
        make_dense(cfg, name, 9)
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    return build_random(cfg)


@pytest.mark.parametrize(('name', 'options'), CASES_OF_MODELS.values(), ids=CASES_OF_MODELS)
def test_graph_finds_what_mmdet_finds(name, options):
    model, comparison = build(name, options), Comparison()
    for case in CASES[:2]:
        images = images_of(case)
        with torch.no_grad():
            expected, found = predict(model, images), detector(model).graphs[0](images)
        comparison([part.numpy() for part in expected], [part.numpy() for part in found])
        count = int(found[3][0])
        # Two whose scores are equal but for rounding stand in either order.
        apart = torch.cdist(found[0][0, :count], expected[0], p=torch.inf)
        assert count == len(expected[0]) and max(apart.amin(0).max(), apart.amin(1).max()) < 1e-2
        assert not found[0][0, count:].any() and not found[1][0, count:].any() and not found[2][0, count:].any()
    assert comparison.number >= 10 and len(comparison.classes) >= 3 and not comparison.remark()


#: What is done to the results of a graph, and what is said of it.
FAULTS = (
    (lambda found: found[0].__imul__(1.1), r'lacks the detection of class \d+ .* at a corner'),
    (lambda found: found[1].__iadd__(.01), r'differs by \S+ pixels at a corner, by 1\.0e-02 in its score'),
    (lambda found: found[2].__iadd__(99), 'there is none of its class'),
    (lambda found: found[3].__isub__(1), 'detections in image 0, not'),
    (lambda found: found[4].__imul__(.1), r'by \d+ of \d+ pixels of the mask'),
)


def test_each_fault_is_found():
    model, images = build('mask_rcnn', {}), images_of(CASES[0])
    with torch.no_grad():
        expected = [part.numpy() for part in predict(model, images)]
        found = [part.numpy() for part in detector(model).graphs[0](images)]
    Comparison()(expected, found)
    for fault, message in FAULTS:
        changed = [part.copy() for part in found]
        fault(changed)
        with pytest.raises(ExportError, match=message):
            Comparison()(expected, changed)
    assert 'showed nothing' in Comparison().remark()
