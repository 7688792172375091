"""How many images are tested is told for every kind of data set; what belongs to them is left in a metric's truth."""
import json
from types import SimpleNamespace

import pytest

from convnext_mm.evaluation.tested import Tested, restrict_metrics
from convnext_mm.utils.errors import UserError

COCO = pytest.importorskip('pycocotools.coco', reason='pycocotools is not installed').COCO

METAINFO = dict(classes=('a', 'b'))


class Data:
    """What the functions read of mmengine's data sets."""

    def __init__(self, ids, total=None, reads=True, **attributes):
        self.infos, self.total, self.reads = [dict(img_id=i) for i in ids], total, reads
        self._indices = None if total is None else list(range(len(ids)))
        vars(self).update(dict(metainfo=METAINFO, ann_file='a.json', **attributes))

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]

    def load_data_list(self):
        if not self.reads:
            raise AttributeError('extra_anns')
        return [{}] * self.total


class Wrapper(SimpleNamespace):
    """One of mm's wrappers; it leaves the ids to what is inside."""

    metainfo = METAINFO

    def __len__(self):
        return 0


def truth(*ids, **more):
    """A metric with these images in its file, an annotation in each, all of id 0."""
    coco = COCO()
    coco.dataset = dict(images=[dict(id=i) for i in ids], categories=[dict(id=1, name='a')],
                        annotations=[dict(id=0, image_id=i, category_id=1, **more) for i in ids])
    coco.createIndex()
    return SimpleNamespace(_coco_api=coco, img_ids=None)


@pytest.mark.parametrize(('dataset', 'text'), [
    (Data([3, 5]), '2 of 2 images of a.json'), (Data([3, 5], total=9), '2 of 9 images of a.json'),
    # The file of some data sets can be read once.
    (Data([3, 5], total=9, reads=False), '2 images of a.json'),
    (Wrapper(dataset=Data([3, 5])), '2 of 2 images of a.json'),
    (Wrapper(datasets=[Data([3], total=4), Data([5])]), '1 of 4 images of a.json, 1 of 1 images of a.json')])
def test_what_is_told_without_annotation_files(dataset, text):
    assert ', '.join(map(str, restrict_metrics([object()], [None], dataset, 'key'))) == text


def test_a_truth_is_restricted():
    metric, other = truth(7, 3, 5), object()
    assert restrict_metrics([other, metric], [None, 'b.json'], Data([5, 7]), 'key') == [Tested(2, 3, 'b.json')]
    coco = metric._coco_api
    assert [image['id'] for image in coco.dataset['images']] == [5, 7] == metric.img_ids
    assert [(a['id'], a['image_id'], a['iscrowd']) for a in coco.dataset['annotations']] == [(1, 7, 0), (2, 5, 0)]
    assert sorted(coco.anns) == [1, 2] and len(coco.getAnnIds()) == 2


def test_panoptic_segments_keep_their_ids():
    metric = truth(7, 3, segments_info=[])
    restrict_metrics([metric], ['b.json'], Data([7]), 'key')
    assert [json.dumps(a) for a in metric._coco_api.dataset['annotations']] == [
        '{"id": 0, "image_id": 7, "category_id": 1, "segments_info": []}']


def test_a_data_set_that_says_no_ids_leaves_the_truth_alone():
    metric, dataset = truth(7, 3), type('Plain', (), {'__len__': lambda self: 2, 'metainfo': METAINFO})()
    assert restrict_metrics([metric], ['b.json'], dataset, 'key') == [Tested(2, 2, 'Plain')]
    assert [image['id'] for image in metric._coco_api.dataset['images']] == [7, 3] and metric.img_ids is None


@pytest.mark.parametrize(('dataset', 'message'), [
    (Data([7, 4]), 'b.json has no image of 1 of 2 ids of key: 4: set the evaluator.s ann_file'),
    (Data([7, 7]), 'key has 1 of 1 images more than once')])
def test_what_does_not_meet_is_refused(dataset, message):
    with pytest.raises(UserError, match=message):
        restrict_metrics([truth(7, 3)], ['b.json'], dataset, 'key')
