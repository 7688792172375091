"""Built data sets are found inside of all wrappers, in their order."""
from argparse import Namespace

import pytest

from convnext_mm.utils.built_datasets import built_leaves

A, B = Namespace(ann_file='a'), Namespace(ann_file='b', dataset=None)


@pytest.mark.parametrize(('dataset', 'found'), [
    (A, [A]), (B, [B]), (Namespace(dataset=A), [A]), (Namespace(datasets=[B, A]), [B, A]),
    (Namespace(dataset=Namespace(datasets=[Namespace(dataset=B), Namespace(datasets=[A, B])])), [B, A, B])])
def test_leaves(dataset, found):
    assert [id(leaf) for leaf in built_leaves(dataset)] == list(map(id, found))
