"""Outputs appear whole or not at all, and a place where they cannot be is found before."""
import pytest

from convnext_mm.utils import files
from convnext_mm.utils.errors import UserError


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    with files.whole_file(path) as temporary:
        temporary.write_text('text')
        assert not path.exists()
    assert path.read_text() == 'text' and [p.name for p in path.parent.iterdir()] == ['a.txt']


def test_what_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with pytest.raises(TypeError), files.whole_file(path) as temporary:
        temporary.write_text('half') + 'no number'
    assert path.read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['a.txt']


def test_no_place_to_write(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be written'), files.whole_file(tmp_path / 'file' / 'a.txt') as file:
        file.write_text('')


@pytest.mark.parametrize(('path', 'good'), [
    ('a', True), ('new/deep/a', True), ('file', True), ('folder', True), ('folder/a', True), ('file/a', False),
    ('file/deep/a', False), ('dangling/a', False)])
def test_places(path, good, tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'dangling').symlink_to(tmp_path / 'gone')
    before = sorted(tmp_path.rglob('*'))
    if good:
        files.check_place('--out', tmp_path / path)
    else:
        with pytest.raises(UserError, match='--out .* is not a folder'):
            files.check_place('--out', tmp_path / path)
    assert sorted(tmp_path.rglob('*')) == before, 'nothing is made'


def test_no_permission(tmp_path, monkeypatch):
    # Whoever runs the tests may be root, who may write everywhere.
    monkeypatch.setattr(files.os, 'access', lambda path, mode: False)
    with pytest.raises(UserError, match='--out .* no permission'):
        files.check_place('--out', tmp_path / 'a')


@pytest.mark.parametrize('durable', [False, True])
def test_two_processes_may_write_one_file(durable, tmp_path, monkeypatch):
    path = tmp_path / 'a.json'
    with files.whole_file(path, durable) as first:
        monkeypatch.setattr(files.os, 'getpid', lambda: 1)
        with files.whole_file(path, durable) as second:
            first.write_text('first'), second.write_text('second')
            assert first != second and first.suffix == path.suffix
        assert path.read_text() == 'second'
    assert path.read_text() == 'first' and [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_the_error_has_its_number(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(files.WriteError) as raised, files.whole_file(tmp_path / 'file' / 'a'):
        pass
    assert raised.value.errno and isinstance(raised.value, OSError)


def test_a_folder_appears_when_it_is_complete(tmp_path):
    path = tmp_path / 'new' / 'folder'
    for text in ('old', 'new'):
        with files.whole_folder(path) as temporary:
            (temporary / text).touch()
    assert [p.name for p in path.iterdir()] == ['new'] and [p.name for p in path.parent.iterdir()] == ['folder']
    with pytest.raises(TypeError), files.whole_folder(path) as temporary:
        temporary / 3
    assert [p.name for p in path.iterdir()] == ['new'] and [p.name for p in path.parent.iterdir()] == ['folder']


@pytest.mark.parametrize(('path', 'folder', 'name'), [
    ('d/img/berlin/1.jpg', 'd/img', 'berlin/1.png'), ('d/img/1.png', 'd/img/', '1.png'),
    ('elsewhere/1.jpg', 'd/img', '1.png'), ('d/img/1.jpg', '', '1.png')])
def test_names_of_pngs(path, folder, name):
    assert files.png_name(path, folder) == name
