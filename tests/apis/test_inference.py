"""Images on their way to the model: what is wrong with a file is found, and who shares a batch."""
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image

for _toolbox in ('mmdet', 'mmseg'):
    pytest.importorskip(_toolbox, reason=f'prediction needs {_toolbox}')

from convnext_mm.apis import inference  # noqa: E402 -- it needs both toolboxes


@pytest.mark.parametrize('ending', ['jpg', 'png'])
def test_a_cut_image_is_found_whatever_the_decoder_makes_of_it(tmp_path, ending):
    lenient = Namespace(transforms=[lambda results: dict(img=np.zeros((96, 128, 3), np.uint8))])
    whole, cut = (tmp_path / f'{name}.{ending}' for name in ('whole', 'cut'))
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (96, 128, 3), np.uint8)).save(whole)
    cut.write_bytes(whole.read_bytes()[:whole.stat().st_size // 2])
    assert inference.Predictor.load(lenient, 1, whole).pixels.shape == (96, 128, 3)
    with pytest.raises(OSError, match='truncated'):
        inference.Predictor.load(lenient, 1, cut)


def test_images_in_a_file_are_counted_but_not_the_previews_of_a_camera(tmp_path):
    loader = Namespace(transforms=[lambda results: dict(img=np.zeros((96, 128, 3), np.uint8))])
    picture = Image.new('RGB', (128, 96))
    for name, kind, frames in (('a.gif', 'GIF', 1), ('b.gif', 'GIF', 3), ('c.tif', 'TIFF', 2), ('d.jpg', 'MPO', 2)):
        others = [Image.new('RGB', (128, 96), (9 * i, 200, 50)) for i in range(1, frames)]
        picture.save(tmp_path / name, kind, save_all=True, append_images=others)
        assert inference.Predictor.load(loader, 1, tmp_path / name).frames == (1 if kind == 'MPO' else frames)


def test_only_neighbours_of_one_shape_share_a_batch():
    items = [Namespace(data=dict(inputs=torch.empty(shape)), name=i)
             for i, shape in enumerate([(1, 2), (1, 2), (1, 2), (2, 1), (1, 2)])]
    assert [[item.name for item in batch] for batch in inference.batches(items, 2)] == [[0, 1], [2], [3], [4]]
    assert [[item.name for item in batch] for batch in inference.batches(items, 9)] == [[0, 1, 2], [3], [4]]
