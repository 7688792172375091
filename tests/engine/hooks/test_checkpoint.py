"""Checkpoints are whole or not there, and damaged ones are named and passed over."""
import errno
import io
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import read
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
def test_files_are_torchs(file, options):
    assert torch.load(str(file), **options)['state_dict']['a'].equal(CONTENT['state_dict']['a'])
    assert read(str(file))['state_dict']['a'].equal(CONTENT['state_dict']['a'])


def test_no_flipped_byte_changes_what_is_read(file):
    """Checksums find flips in what is read; the others are in what nobody reads, such as the padding."""
    whole = file.read_bytes()
    chance = random.Random(0)
    found = 0
    for place in chance.sample(range(len(whole)), 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        try:
            content = read(str(file))
        except CheckpointError:
            found += 1
        else:
            assert content['state_dict']['a'].equal(CONTENT['state_dict']['a']) and content['meta'] == CONTENT['meta']
    assert found > 100


@pytest.mark.parametrize('call', ['write', 'fsync', 'replace'])
@pytest.mark.parametrize(('number', 'said'), [
    (errno.ENOSPC, 'the disk is full'), (errno.EDQUOT, 'the disk is full'), (errno.EIO, os.strerror(errno.EIO))])
def test_a_failed_write_stops_the_run_and_leaves_what_was_there(file, monkeypatch, call, number, said):
    before = file.read_bytes()

    def fail(*args):
        raise OSError(number, os.strerror(number))
    monkeypatch.setattr(*(Path, 'write_bytes') if call == 'write' else (files.os, call), fail)
    with pytest.raises(RunStopped, match=f'{file.name}.* cannot be written: {said};.*--resume') as raised:
        AtomicBackend().put(bytes_of(dict(other=1)), str(file))
    assert raised.value.exit_code == 1
    monkeypatch.undo()
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
    # In the pickle: nothing reads the padding between records.
    content[content.index(b'\x80\x02') + 10] ^= 1
    file.write_bytes(content)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b'')


@pytest.mark.parametrize('damage', [flip, cut, empty])
def test_damaged_checkpoints_are_passed_over(tmp_path, damage):
    for iteration in (3, 6, 9):
        path = tmp_path / f'iter_{iteration}.pth'
        AtomicBackend().put(bytes_of({**CONTENT, 'meta': dict(iter=iteration)}), str(path))
        os.utime(path, (iteration, iteration))
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


def test_what_a_kill_leaves_of_a_write_is_no_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.whole_file(tmp_path / 'iter_3.pth') as temporary:
        raise KeyboardInterrupt
    temporary.write_bytes(bytes_of(CONTENT)[:100])
    assert find_checkpoint(tmp_path) is None
    AtomicBackend().put(bytes_of(CONTENT), str(tmp_path / 'iter_3.pth'))
    os.utime(tmp_path / 'iter_3.pth', (3, 3))
    assert find_checkpoint(tmp_path)[0] == str(tmp_path / 'iter_3.pth')


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
