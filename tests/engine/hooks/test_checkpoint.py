"""Checkpoints are whole or not there, carry a checksum, and damaged ones are named and passed over."""
import errno
import io
import os
import random
import shutil

import pytest
import torch

from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read
from convnext_mm.checkpoint.seal import LENGTH, seal
from convnext_mm.engine.hooks.checkpoint import AtomicBackend
from convnext_mm.engine.resume import find_checkpoint
from convnext_mm.utils import files
from convnext_mm.utils.errors import RunStopped, UserError
from tests.helpers.toy import build_runner

CONTENT = dict(state_dict=dict(a=torch.arange(50.)), meta=dict(iter=3, seed=1), optimizer={})


def bytes_of(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.fixture
def file(tmp_path):
    AtomicBackend().put(bytes_of(CONTENT), str(tmp_path / 'iter_3.pth'))
    return tmp_path / 'iter_3.pth'


@pytest.mark.parametrize('options', [{}, dict(weights_only=True), dict(mmap=True, weights_only=True)], ids=str)
def test_sealed_files_are_torchs(file, options):
    assert torch.load(str(file), **options)['state_dict']['a'].equal(CONTENT['state_dict']['a'])
    assert read(str(file))['state_dict']['a'].equal(CONTENT['state_dict']['a'])


def test_every_flipped_byte_is_found(file):
    whole = file.read_bytes()
    chance = random.Random(0)
    # The end record and its comment byte by byte, and a sample of all else.
    places = [*range(len(whole) - LENGTH - 22, len(whole)), *chance.sample(range(len(whole)), 300)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            read(str(file))


@pytest.mark.parametrize('content', [b'', b'PK', bytes_of(CONTENT) + b'x', b''.join(seal(bytes_of(CONTENT)))])
def test_only_what_torch_writes_is_sealed(content):
    with pytest.raises(ValueError, match='zip without a comment'):
        seal(content)


@pytest.mark.parametrize(('error', 'said'), [
    (OSError(errno.ENOSPC, 'No space left on device'), 'the disk is full'), (OSError(errno.EIO, 'I/O error'), 'I/O')])
def test_a_failed_write_leaves_what_was_there(file, monkeypatch, error, said):
    before = file.read_bytes()

    def fail(descriptor):
        raise error
    monkeypatch.setattr(files.os, 'fsync', fail)
    with pytest.raises(RunStopped, match=said):
        AtomicBackend().put(bytes_of(dict(other=1)), str(file))
    assert file.read_bytes() == before
    assert [f.name for f in file.parent.iterdir()] == ['iter_3.pth']


def test_the_last_checkpoint_stays_until_the_next_is_whole(tmp_path, monkeypatch):
    seen = []
    put = AtomicBackend.put

    def watched(self, obj, filepath):
        seen.append(sorted(f.name for f in tmp_path.glob('*.pth')))
        put(self, obj, filepath)
    monkeypatch.setattr(AtomicBackend, 'put', watched)
    build_runner(tmp_path, dict(max_iters=9), by_epoch=False).train()
    assert seen == [[], ['iter_3.pth'], ['iter_6.pth']]
    assert [f.name for f in tmp_path.glob('*.pth')] == ['iter_9.pth']


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b'')


@pytest.mark.parametrize('damage', [flip, cut, empty])
def test_damaged_checkpoints_are_passed_over(tmp_path, damage):
    for iteration in (3, 6, 9):
        AtomicBackend().put(bytes_of({**CONTENT, 'meta': dict(iter=iteration)}), str(tmp_path / f'iter_{iteration}.pth'))
        os.utime(tmp_path / f'iter_{iteration}.pth', (iteration, iteration))
    for name in ('best_mIoU_iter_9.pth', 'nonfinite_iter_9.pth'):
        torch.save(dict(state_dict={}), tmp_path / name)
    torch.save(dict(state_dict={}), tmp_path / 'weights_alone.pth')
    for iteration, left in ((9, 6), (6, 3)):
        damage(tmp_path / f'iter_{iteration}.pth')
        path, content = find_checkpoint(tmp_path)
        assert path.endswith(f'iter_{left}.pth') and content['meta']['iter'] == left
    damage(tmp_path / 'iter_3.pth')
    with pytest.raises(UserError, match=r'every checkpoint in .* is damaged \(.*iter_9.pth'):
        find_checkpoint(tmp_path)


def test_nothing_to_resume(tmp_path):
    assert find_checkpoint(tmp_path) is None
    assert find_checkpoint(tmp_path / 'missing') is None


def test_a_disk_without_room_is_found_before_training(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=50))
    runner = build_runner(tmp_path, dict(max_iters=3), by_epoch=False)
    # 8 numbers and two moments of each, in float32.
    with pytest.raises(UserError, match='0.0 GB left'):
        runner.train()
    assert runner.iter == 0
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=8 * 3 * 4))
    build_runner(tmp_path, dict(max_iters=3), by_epoch=False).train()
