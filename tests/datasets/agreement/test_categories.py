"""The name of a label is the same in the config, in each annotation file and in each split, or it is refused."""
import itertools
import json

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from convnext_mm.datasets.agreement import check_agreement
from convnext_mm.utils.errors import UserError

pytest.importorskip('mmdet', reason='mmdet is not installed')
ABC, CBA = ('a', 'b', 'c'), ('c', 'b', 'a')
IDS = dict(a=1, b=2, c=3)


def write(path, names, ids=IDS):
    path.write_text(json.dumps(dict(
        images=[dict(id=1, file_name='1.png', width=9, height=9)], annotations=[],
        categories=[dict(id=ids.get(name, 9), name=name, supercategory='the "list" ]') for name in names])))
    return str(path)


def config(folder, classes, train, val, evaluator, kind='CocoDataset', sort=False):
    """A config on two files; each argument is an order of names."""
    init_default_scope('mmdet')
    loaders = {f'{split}_dataloader': dict(dataset=dict(
        type=kind, ann_file=write(folder / f'{split}.json', names),
        **(dict(metainfo=dict(classes=given)) if given else {})))
        for split, names, given in (('train', train, classes[0]), ('val', val, classes[1]))}
    metric = dict(type='CocoMetric', ann_file=write(folder / 'evaluator.json', evaluator), sort_categories=sort)
    return Config(dict(model=dict(type='RetinaNet'), val_evaluator=metric, **loaders))


ROWS = [  # classes of training and validation, files of training, validation and evaluator, type, sort -> refused
    ((ABC, ABC), ABC, ABC, ABC, 'CocoDataset', False, None),
    ((CBA, CBA), CBA, CBA, CBA, 'CocoDataset', False, None),
    # Categories that are not asked for may stand anywhere.
    ((ABC, ABC), ('x', *ABC), ('a', 'x', 'b', 'c'), ABC, 'CocoDataset', False, None),
    ((CBA, CBA), ABC, ABC, ABC, 'CocoDataset', False,
     r'train\.json \(train_dataloader\.dataset\.ann_file\) numbers labels as a, b, c, train_dataloader\.dataset\.'
     r"metainfo\.classes names them as c, b, a.*label 0 is 'a'.*'c'.*metainfo\.classes=\"\('a','b','c',\)\""),
    ((ABC, ABC), ABC, CBA, ABC, 'CocoDataset', False,
     r'val\.json \(val_dataloader\.dataset\.ann_file\) numbers labels as c, b, a.*one order in .*train\.json.*'
     r'val\.json'),
    ((ABC, ABC), ABC, ABC, CBA, 'CocoDataset', False,
     r'val_evaluator numbers labels by .*evaluator\.json.* as c, b, a.*sort_categories=True'),
    ((ABC, ABC), ABC, ABC, CBA, 'CocoDataset', True, None),
    ((CBA, CBA), CBA, CBA, CBA, 'CocoDataset', True, r'sort_categories=False'),
    ((ABC, CBA), ABC, CBA, CBA, 'CocoDataset', False, r"order of classes differs.*'c' is label 2 in one and 0 in"),
    # Objects365's first version sorts by id, its second does not.
    ((ABC, ABC), CBA, CBA, ABC, 'Objects365V1Dataset', False, None),
    ((ABC, ABC), ABC, CBA, ABC, 'Objects365V2Dataset', False, r'val\.json .*numbers labels as c, b, a'),
    ((CBA, CBA), CBA, CBA, CBA, 'Objects365V1Dataset', False, r'train\.json .*numbers labels as a, b, c'),
    # Files of names in the config's order.
    ((CBA, CBA), ABC, ABC, CBA, 'XMLDataset', False, None),
    ((ABC, CBA), ABC, ABC, CBA, 'XMLDataset', False, 'order of classes differs'),
]


@pytest.mark.parametrize(('classes', 'train', 'val', 'evaluator', 'kind', 'sort', 'refused'), ROWS)
def test_order_of_categories(tmp_path, classes, train, val, evaluator, kind, sort, refused):
    cfg = config(tmp_path, classes, train, val, evaluator, kind, sort)
    if refused is None:
        check_agreement(cfg, ('train', 'val'))
        return
    with pytest.raises(UserError, match=refused):
        check_agreement(cfg, ('train', 'val'))


@pytest.mark.parametrize('kind', ['CocoDataset', 'Objects365V1Dataset', 'Objects365V2Dataset', 'CityscapesDataset'])
@pytest.mark.parametrize('order', [ABC, CBA, ('b', 'a', 'c')])
def test_what_is_accepted_is_what_the_built_data_set_numbers(tmp_path, kind, order):
    """Try every order of the config: exactly the one that mmdet numbers by is accepted."""
    write(tmp_path / 'file.json', order)
    init_default_scope('mmdet')
    built = DATASETS.build(dict(type=kind, ann_file=str(tmp_path / 'file.json'), metainfo=dict(classes=ABC),
                                data_prefix=dict(img=''), pipeline=[], test_mode=True, lazy_init=True))
    built.load_data_list()
    names = {category: name for name, category in IDS.items()}
    numbered = tuple(names[category] for category in sorted(built.cat2label, key=built.cat2label.get))
    accepted = []
    for classes in itertools.permutations(ABC):
        dataset = dict(type=kind, ann_file=str(tmp_path / 'file.json'), metainfo=dict(classes=classes))
        try:
            check_agreement(Config(dict(model={}, train_dataloader=dict(dataset=dataset))), ('train',))
            accepted.append(classes)
        except UserError:
            pass
    assert accepted == [numbered]


def test_without_classes_in_the_config_the_type_names_them(tmp_path):
    cfg = config(tmp_path, (None, None), ('bicycle', 'person'), ('person', 'bicycle'), ('person', 'bicycle'))
    with pytest.raises(UserError, match=r"train\.json.*numbers labels as bicycle, person.*label 0 is 'bicycle'"):
        check_agreement(cfg, ('train', 'val'))
