"""Sizes in a config are scaled, and nothing else."""
import pytest
from mmengine.config import ConfigDict

from convnext_mm.utils.sizes import scale_sizes


@pytest.mark.parametrize(('node', 'scaled'), [
    ((512, 512), (640, 640)), ((341, 7), (426, 8)), (512, 512), (True, True), (None, None), ('crop', 'crop'),
    ([512, 512], [512, 512]), ((.5, 2.), (.5, 2.)), (('img_path', 'ori_shape'), ('img_path', 'ori_shape')),
    ([dict(type='Resize', scale=(2048, 512)), [dict(scales=[(8, 16), (16, 24)])]],
     [dict(type='Resize', scale=(2560, 640)), [dict(scales=[(10, 20), (20, 30)])]]),
    (ConfigDict(crop_size=(512, 512), stride=(341, 341)), dict(crop_size=(640, 640), stride=(426, 426)))])
def test_sizes_are_the_tuples_of_integers(node, scaled):
    result = scale_sizes(node, 640, 512)
    assert result == scaled and type(result) is type(scaled)


def test_the_given_part_stays():
    node = dict(pipeline=[dict(scale=(8, 16))])
    scale_sizes(node, 1, 8)
    assert node == dict(pipeline=[dict(scale=(8, 16))])
