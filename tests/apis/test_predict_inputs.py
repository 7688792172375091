"""Every image of an input is found once, and has a picture's name of its own."""
import os
from pathlib import Path

import pytest

from convnext_mm.apis import predict_inputs
from convnext_mm.utils.errors import UserError


@pytest.fixture
def photos(tmp_path, monkeypatch):
    for name in ('a.png', 'alpha.PNG', 'sub/a.png', 'sub/deep/b.gif', 'odd[1].png', 'notes.txt', '.hidden.png'):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / 'photos' / 'empty').mkdir()
    monkeypatch.chdir(tmp_path / 'photos')
    return tmp_path / 'photos'


@pytest.mark.parametrize(('inputs', 'expected'), [
    (['sub'], ['sub/a.png', 'sub/deep/b.gif']), (['*.png'], ['a.png', 'odd[1].png']),
    (['.'], ['.hidden.png', 'a.png', 'alpha.PNG', 'odd[1].png', 'sub/a.png', 'sub/deep/b.gif']),
    (['sub/a.png', '**/a.png'], ['sub/a.png', 'a.png']), (['odd[1].png'], ['odd[1].png']),
    (['notes.txt'], ['notes.txt']), (['a.png', './a.png', os.path.join('..', 'photos', 'a.png')], ['a.png'])])
def test_inputs(inputs, expected, photos):
    assert [str(file) for file in predict_inputs.find_images(inputs, 'out')] == expected


@pytest.mark.parametrize('wrong', ['gone.jpg', '*.webp', 'empty'])
def test_inputs_without_images(wrong, photos):
    with pytest.raises(UserError, match=f'input {wrong!r}'.replace('*', r'\*')):
        predict_inputs.find_images(['a.png', wrong], 'out')


def test_links(photos, tmp_path):
    (tmp_path / 'far').mkdir()
    (tmp_path / 'far' / 'c.png').touch()
    for name, target in (('far', '../far'), ('link.png', 'a.png'), ('gone.png', 'nowhere.png'), ('sub/up', '..'),
                         ('self', '.')):
        (photos / name).symlink_to(target)
    (tmp_path / 'far' / 'back').symlink_to('../photos')
    found = [str(file) for file in predict_inputs.find_images(['.'], 'out')]
    assert found == ['.hidden.png', 'a.png', 'alpha.PNG', 'far/c.png', 'gone.png', 'link.png', 'odd[1].png',
                     'sub/a.png', 'sub/deep/b.gif']
    os.mkfifo(photos / 'pipe.png')
    assert [str(file) for file in predict_inputs.find_images(['.'], 'out')] == found, 'reading it would wait for ever'


def test_a_folder_that_cannot_be_read(photos, monkeypatch):
    iterdir = Path.iterdir

    def refuse(self):
        if self.name == 'deep':
            raise PermissionError(13, 'Permission denied')
        return iterdir(self)

    monkeypatch.setattr(Path, 'iterdir', refuse)
    with pytest.raises(UserError, match="input 'sub/deep' cannot be read: Permission denied"):
        predict_inputs.find_images(['sub'], 'out')


def test_results_inside_the_input(photos):
    (photos / 'out' / 'pictures').mkdir(parents=True)
    (photos / 'out' / 'pictures' / 'mine.png').touch()
    with pytest.raises(UserError, match="--out-dir 'out' has pictures or maps that are in input '.'"):
        predict_inputs.find_images(['.'], 'out')
    (photos / 'out' / 'predictions.json').touch()
    assert not any('out' in file.parts for file in predict_inputs.find_images(['.'], 'out'))


@pytest.mark.parametrize(('files', 'names'), [
    (['x/a.png', 'y/a.png'], ['x/a.png', 'y/a.png']), (['x/a.jpg'], ['a.png']), (['x/a.jpg', 'x/s/a.jpg'],
                                                                                ['a.png', 's/a.png']),
    (['x/a.png', 'x/a.jpg', 'x/a_2.png', 'x/a.tif'], ['a.png', 'a_2.png', 'a_2_2.png', 'a_3.png']),
    (['/p/a.png', '/q/a.png'], ['p/a.png', 'q/a.png'])])
def test_names_never_meet(files, names):
    assert predict_inputs.name_pictures(list(map(Path, files))) == names
