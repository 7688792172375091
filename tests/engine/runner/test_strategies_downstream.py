"""Whole detectors and segmentors under each strategy, and that every parameter of the thirteen gets a gradient.

The models are the demo's and the configs' own, narrow and shallow (`small.shrink`); images are 64 x 64, of noise.
"""
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope

from tests.helpers import engines
from tests.helpers.engines import STRATEGIES, last, relative
from tests.helpers.paths import ROOT
from tests.helpers.processes import run

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmseg is not installed')
from tests.helpers.small import shrink

LEAVES = sorted(path.relative_to(ROOT / 'configs') for family in ('cascade', 'mask_rcnn', 'upernet')
                for path in ROOT.glob(f'configs/{family}/convnext_*.py'))


def small_model(kind):
    model = Config.fromfile(ROOT / f'configs/demo/{kind}.py').model
    model.backbone.arch.depths = (1, 1, 2, 1)
    if kind == 'upernet':
        # A single value has no variance for BatchNorm.
        model.decode_head.pool_scales = (2, 3)
        model.data_preprocessor.size = (64, 64)
    else:
        model.roi_head.mask_head.num_convs = 1
        model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=50)
        for stage in model.train_cfg.rcnn:
            stage.sampler.num = 8
    return model.to_dict()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folders of trainings of a detector and a segmentor, alone and under each strategy."""
    folder = tmp_path_factory.mktemp('downstream')
    for strategy in (None, *STRATEGIES):
        settings = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)),
                        **({} if strategy else dict(accumulation=2, in_turn=2)))
        trainings = [((folder / str(strategy) / kind, strategy),
                      dict(settings, model=small_model(kind), dataset=dataset, scope=scope))
                     for kind, dataset, scope in (('cascade', 'DetectionNoise', 'mmdet'),
                                                  ('upernet', 'SegmentationNoise', 'mmseg'))]
        run(engines.train_all, trainings, count=2 if strategy else 1)
    return folder


@pytest.mark.parametrize('strategy', STRATEGIES)
@pytest.mark.parametrize('kind', ['cascade', 'upernet'])
def test_weights_are_those_of_one_process_that_averages_gradients(kind, strategy, trained):
    ours, theirs = (last(trained / who / kind)['state_dict'] for who in (strategy, 'None'))
    assert ours.keys() == theirs.keys()
    # Running statistics are each process's own.
    parameters = [name for name in theirs if 'running' not in name and 'num_batches' not in name]
    assert len(parameters) > 100
    ours, theirs = ({name: content[name] for name in parameters} for content in (ours, theirs))
    assert relative(ours, theirs) < 1e-5
    init_default_scope('mmdet' if kind == 'cascade' else 'mmseg')
    model = MODELS.build(ConfigDict(small_model(kind)))
    model.load_state_dict(last(trained / strategy / kind)['state_dict'], strict=True)
    assert set(parameters) == {name for name, _ in model.named_parameters()}


@pytest.fixture(scope='module')
def without_gradient():
    """Return a function that names the parameters of a config's model that get none: {whether images are empty: names}.

    Equal models are asked once.
    """
    known = {}

    def find(cfg):
        model = str(cfg.model.to_dict())
        if model not in known:
            known[model] = {empty: names_without_gradient(cfg, empty) for empty in (False, True)}
        return known[model]
    return find


def names_without_gradient(cfg, empty):
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).train()
    data = engines.DetectionNoise() if cfg.default_scope == 'mmdet' else engines.SegmentationNoise()
    items = [data.make(index, empty) for index in range(2)]
    batch = model.data_preprocessor({key: [item[key] for item in items] for key in items[0]}, True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize('leaf', LEAVES, ids=str)
def test_every_parameter_gets_a_gradient(leaf, without_gradient):
    """So that DDP needs no `find_unused_parameters`; on images without an object, too."""
    cfg = shrink(Config.fromfile(ROOT / 'configs' / leaf))
    assert 'find_unused_parameters' not in str(cfg.to_dict())
    # Made small, the leaves of a family differ in it alone.
    cfg.model.backbone.drop_path_rate = .3
    assert without_gradient(cfg) == {False: [], True: []}
