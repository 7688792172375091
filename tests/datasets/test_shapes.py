"""The generated data sets: the same everywhere, disjoint splits, annotations that are what was drawn."""
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from convnext_mm.datasets import shapes
from convnext_mm.datasets.scenes import draw_scene, semantic_map
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError, UserError

SMALL = dict(train=6, val=4, width=96, height=80)


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes') / 'coco'
    assert shapes.generate_coco(root, **SMALL)
    return root


@pytest.fixture(scope='module')
def ade(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes') / 'ade'
    assert shapes.generate_ade(root, **SMALL)
    return root


def pixels(path):
    return np.array(Image.open(path))


def digest(root):
    """Of everything that a training sees: names, pixels and annotations, not a compressor's bytes."""
    total = hashlib.sha256()
    for path in sorted(p for p in root.rglob('*') if p.is_file() and p.name != shapes.MARKER):
        total.update(path.relative_to(root).as_posix().encode())
        total.update(pixels(path).tobytes() if path.suffix == '.png' else path.read_bytes())
    return total.hexdigest()


def scenes(kind, split, count):
    return [draw_scene(shapes._stream(0, kind, split, i), SMALL['width'], SMALL['height']) for i in range(count)]


def load(coco, split):
    return json.loads((coco / 'annotations' / f'instances_{split}2017.json').read_text())


def test_the_drawing_is_the_same_on_every_machine():
    """A change of this digest changes the data: raise ``VERSION`` with it, so that older sets are made anew."""
    total = hashlib.sha256()
    for kind in ('coco', 'ade'):
        for i in range(4):
            rng = shapes._stream(0, kind, 'train', i)
            scene = draw_scene(rng)
            for part in (scene.image, np.array(scene.labels, '<i8'), scene.masks, semantic_map(scene, rng)):
                total.update(np.ascontiguousarray(part).tobytes())
    assert (shapes.VERSION, total.hexdigest()) == (
        1, 'de6cc34a95407fb659f38e530e59a2ddff2b95c827227d79f8b031964768ed6e')


@pytest.mark.parametrize(('generate', 'made'), [(shapes.generate_coco, 'coco'), (shapes.generate_ade, 'ade')])
def test_same_seed_same_set_another_seed_another(generate, made, tmp_path, request):
    first = digest(request.getfixturevalue(made))
    generate(tmp_path / 'again', **SMALL)
    generate(tmp_path / 'other', **SMALL, seed=1)
    assert digest(tmp_path / 'again') == first
    assert digest(tmp_path / 'other') != first


def test_an_image_does_not_depend_on_how_many_there_are(tmp_path, coco):
    shapes.generate_coco(tmp_path / 'more', **{**SMALL, 'train': 8})
    for path in (coco / 'train2017').iterdir():
        assert np.array_equal(pixels(path), pixels(tmp_path / 'more' / 'train2017' / path.name))


def test_no_image_occurs_twice(coco, ade):
    images = [*coco.rglob('*2017/*.png'), *(ade / 'images').rglob('*.png')]
    assert len(images) == 20
    assert len({pixels(path).tobytes() for path in images}) == 20
    ids = [image['id'] for split in shapes.SPLITS for image in load(coco, split)['images']]
    assert len(set(ids)) == 10


@pytest.mark.parametrize('mask', [
    np.zeros((3, 4), bool), np.ones((3, 4), bool), np.eye(5, dtype=bool), np.arange(12).reshape(3, 4) % 5 < 2,
    np.array([[1]], bool), np.array([[0]], bool)], ids=['none', 'all', 'diagonal', 'mixed', 'one', 'zero'])
def test_rle_is_cocos(mask):
    coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not in this environment')
    rle = shapes.encode_rle(mask)
    decoded = coco_mask.decode(coco_mask.frPyObjects(rle, *rle['size']))
    assert np.array_equal(decoded, mask)


@pytest.mark.parametrize('split', shapes.SPLITS)
def test_coco_annotations_are_what_was_drawn(coco, split, capsys):
    api = pytest.importorskip('pycocotools.coco', reason='pycocotools is not in this environment')
    data = api.COCO(str(coco / 'annotations' / f'instances_{split}2017.json'))
    assert [c['name'] for c in data.loadCats(data.getCatIds())] == list(shapes.CLASSES)
    images = data.loadImgs(sorted(data.getImgIds()))
    assert len(images) == SMALL[split]
    for image, scene in zip(images, scenes('coco', split, SMALL[split])):
        assert np.array_equal(pixels(coco / f'{split}2017' / image['file_name']), scene.image)
        assert scene.image.shape == (image['height'], image['width'], 3)
        annotations = data.loadAnns(data.getAnnIds(image['id']))
        assert [a['category_id'] - 1 for a in annotations] == list(scene.labels)
        for annotation, mask in zip(annotations, scene.masks):
            assert np.array_equal(data.annToMask(annotation), mask)
            assert annotation['area'] == mask.sum()
            assert annotation['iscrowd'] == 0
            x, y, w, h = annotation['bbox']
            assert mask[y:y + h, x:x + w].sum() == mask.sum(), 'the box cuts the shape'
            inside = mask[y:y + h, x:x + w]
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1])), 'a loose box'


def test_ade_annotations_are_what_was_drawn(ade):
    unlabelled = 0
    for split, name in (('train', 'training'), ('val', 'validation')):
        files = sorted((ade / 'images' / name).iterdir())
        assert [f.name for f in files] == sorted(f.name for f in (ade / 'annotations' / name).iterdir())
        assert len(files) == SMALL[split]
        for file, scene in zip(files, scenes('ade', split, SMALL[split])):
            assert np.array_equal(pixels(file), scene.image)
            index = pixels(ade / 'annotations' / name / file.name)
            assert index.dtype == np.uint8 and index.shape == scene.image.shape[:2]
            labelled = index > 0
            unlabelled += not labelled.all()
            expected = 1 + sum((label + 1) * mask for label, mask in zip(scene.labels, scene.masks))
            assert np.array_equal(index[labelled], expected[labelled])
    assert 0 < unlabelled < 10


def test_a_set_is_made_once_and_again_for_other_arguments(tmp_path):
    root, arguments = tmp_path / 'deep' / 'coco', {**SMALL, 'train': 2, 'val': 1}
    assert shapes.generate_coco(root, **arguments)
    before = (root / shapes.MARKER).stat().st_mtime_ns
    assert not shapes.generate_coco(root, **arguments)
    assert (root / shapes.MARKER).stat().st_mtime_ns == before
    for change in (dict(seed=1), dict(train=3), dict(val=2), dict(width=100), dict(height=90)):
        arguments.update(change)
        assert shapes.generate_coco(root, **arguments), change
    assert len(list((root / 'train2017').iterdir())) == 3
    assert shapes.generate_ade(root, **arguments), 'a set of the other format'


def test_a_new_version_makes_it_again(tmp_path, monkeypatch):
    arguments = {**SMALL, 'train': 1, 'val': 1}
    shapes.generate_coco(tmp_path / 'coco', **arguments)
    monkeypatch.setattr(shapes, 'VERSION', shapes.VERSION + 1)
    assert shapes.generate_coco(tmp_path / 'coco', **arguments)


@pytest.mark.parametrize('generate', [shapes.generate_coco, shapes.generate_ade])
def test_an_interrupted_set_is_not_taken_for_complete(generate, tmp_path, monkeypatch):
    root, draw, calls = tmp_path / 'set', shapes.draw_scene, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == SMALL['train'] + 2:
            raise KeyboardInterrupt
        return draw(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shapes, 'draw_scene', interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(root, **SMALL)
    assert not root.exists()
    assert generate(root, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ['set'], 'the interrupted part is left over'
    assert len(list(root.rglob('*.png'))) == (10 if generate is shapes.generate_coco else 20)


def test_an_interrupted_replacement_leaves_the_old_set(tmp_path, monkeypatch):
    root = tmp_path / 'set'
    shapes.generate_coco(root, **SMALL)
    before = digest(root)
    with monkeypatch.context() as patch:
        patch.setattr(shapes, '_annotation', lambda mask: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            shapes.generate_coco(root, **SMALL, seed=5)
    assert digest(root) == before and (root / shapes.MARKER).is_file()


@pytest.mark.parametrize('make', [lambda root: (root / 'photo.jpg').write_bytes(b'x'),
                                  lambda root: (root / 'annotations').mkdir()], ids=['file', 'folder'])
def test_a_folder_of_other_things_is_left_alone(tmp_path, make):
    make(tmp_path)
    with pytest.raises(UserError, match='left as it is') as error:
        shapes.generate_coco(tmp_path, **SMALL)
    assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_folder_is_filled(tmp_path):
    assert shapes.generate_coco(tmp_path, **{**SMALL, 'train': 1, 'val': 1})


@pytest.mark.parametrize(('arguments', 'error'), [
    (dict(seed=-1), ArgumentValueError), (dict(seed=2**32), ArgumentValueError), (dict(seed=.5), ArgumentTypeError),
    (dict(seed='1'), ArgumentTypeError), (dict(seed=None), ArgumentTypeError), (dict(train=0), ArgumentValueError),
    (dict(val=0), ArgumentValueError), (dict(train=True), ArgumentTypeError), (dict(train=10**6), ArgumentValueError),
    (dict(width=63), ArgumentValueError), (dict(height=63), ArgumentValueError), (dict(width=5000), ArgumentValueError),
    (dict(height=80.), ArgumentTypeError)])
def test_bad_arguments_are_named_and_nothing_is_written(tmp_path, arguments, error):
    (name, value), = arguments.items()
    with pytest.raises(error) as raised:
        shapes.generate_ade(tmp_path / 'set', **{**SMALL, **arguments})
    message = str(raised.value)
    assert isinstance(raised.value, UserError) and '\n' not in message
    assert message.startswith(f'{name} must be an integer from') and message.endswith(repr(value))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('seed', [0, 2**32 - 1, np.int64(7)])
def test_good_seeds(tmp_path, seed):
    assert shapes.generate_coco(tmp_path / 'set', train=1, val=1, width=64, height=64, seed=seed)


def test_import_is_light():
    code = ('import sys, convnext_mm.datasets.shapes; '
            'print([m for m in ("torch", "mmengine", "mmcv", "mmdet", "mmseg", "matplotlib") if m in sys.modules])')
    assert subprocess.check_output([sys.executable, '-c', code], text=True).strip() == '[]'


def test_classes_are_folders_of_images_of_one_class(tmp_path):
    root = tmp_path / 'classes'
    assert shapes.generate_classes(root, train=12, val=6) and not shapes.generate_classes(root, train=12, val=6)
    for split, count in (('train', 12), ('val', 6)):
        files = sorted((root / split).glob('*/*.png'))
        assert len(files) == count and {file.parent.name for file in files} <= set(shapes.CLASSES)
        for file in files:
            assert pixels(file).shape == (64, 64, 3)
            rng = shapes._stream(0, 'classes', split, int(file.stem[-8:]) - 1)
            while len(set((scene := draw_scene(rng, 64, 64)).labels)) != 1:
                pass
            assert (pixels(file) == scene.image).all() and shapes.CLASSES[scene.labels[0]] == file.parent.name
    assert digest(root / 'train') != digest(root / 'val')
