"""Outputs appear whole or not at all, and a place where they cannot be is found before."""
import os

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


@pytest.mark.parametrize(('path', 'file', 'folder'), [
    # What is wrong with it as a file, and as a folder.
    ('a', None, None), ('new/deep/a', None, None), ('folder/a', None, None),
    ('file', None, 'file is not a folder'), ('link', None, 'link is not a folder'), ('folder', 'it is a folder', None),
    ('dangling', None, 'dangling is not a folder'), ('pipe', 'it is no regular file', 'pipe is not a folder'),
    ('file/a', *['file is not a folder'] * 2), ('file/deep/a', *['file is not a folder'] * 2),
    ('dangling/a', *['dangling is not a folder'] * 2), ('/dev/null', 'it is no regular file', 'null is not a folder'),
    ('/proc/x', *['no file can be made in /proc'] * 2), ('/proc/x/y', *['no file can be made in /proc'] * 2)])
def test_places(path, file, folder, tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'dangling').symlink_to(tmp_path / 'gone')
    (tmp_path / 'link').symlink_to(tmp_path / 'file')
    os.mkfifo(tmp_path / 'pipe')
    before = sorted(tmp_path.rglob('*'))
    for is_folder, wrong in ((False, file), (True, folder)):
        if wrong is None:
            files.check_place('--out', tmp_path / path, is_folder)
        else:
            with pytest.raises(UserError) as info:
                files.check_place('--out', tmp_path / path, is_folder)
            assert f'--out {str(tmp_path / path)!r} cannot be written: ' in str(info.value) and wrong in str(info.value)
    assert sorted(tmp_path.rglob('*')) == before, 'nothing is made'


def test_no_permission(tmp_path, monkeypatch):
    # Whoever runs the tests may be root, who may write everywhere.
    def refuse(dir):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(files.tempfile, 'TemporaryFile', refuse)
    with pytest.raises(UserError, match='--out .* no file can be made in .* .Permission denied.; give another file'):
        files.check_place('--out', tmp_path / 'a')


def test_a_name_of_full_length(tmp_path):
    path = tmp_path / f'{"ä" * 125}.txt'
    with files.whole_file(path) as temporary:
        temporary.write_text('')
    assert path.exists()


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


@pytest.mark.parametrize('kind', ['missing', 'folder', 'link'])
def test_a_folder_is_replaced_by_two_renames(kind, tmp_path, monkeypatch):
    path, new, renamed = tmp_path / 'folder', tmp_path / 'new', []
    new.mkdir()
    (new / 'b').touch()
    (tmp_path / 'target').mkdir()
    (tmp_path / 'target' / 'a').touch()
    if kind == 'folder':
        (tmp_path / 'target').rename(path)
    elif kind == 'link':
        path.symlink_to(tmp_path / 'target')
    rename = os.rename

    def watched(source, target):
        # Before each renaming the old folder is there, whole, here or aside.
        renamed.append(os.path.basename(target))
        assert kind == 'missing' or [p.name for p in (path if path.exists() else tmp_path / renamed[0]).iterdir()] == [
            'a']
        rename(source, target)

    monkeypatch.setattr(files.os, 'rename', watched)
    files.replace_folder(new, path)
    assert [p.name for p in path.iterdir()] == ['b'] and not path.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['folder'] + ['target'] * (kind != 'folder')
    assert len(renamed) == (1 if kind == 'missing' else 2)


def test_a_folder_that_cannot_be_replaced_stays(tmp_path):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'a').touch()
    with pytest.raises(OSError, match='gone'):
        files.replace_folder(tmp_path / 'gone', tmp_path / 'folder')
    assert [p.name for p in tmp_path.rglob('*')] == ['folder', 'a']


@pytest.mark.parametrize(('path', 'folder', 'name'), [
    ('d/img/berlin/1.jpg', 'd/img', 'berlin/1.png'), ('d/img/1.png', 'd/img/', '1.png'),
    ('elsewhere/1.jpg', 'd/img', '1.png'), ('d/img/1.jpg', '', '1.png')])
def test_names_of_pngs(path, folder, name):
    assert files.png_name(path, folder) == name


def test_sha256(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    # Of FIPS 180-2, appendix B.1.
    assert files.sha256(tmp_path / 'a') == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
