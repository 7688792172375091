"""Checkpoint files: what is read, what is refused, and that nothing in them is executed."""
import argparse
import collections
import hashlib
import io
import os
import pickle
import re
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from convnext_mm.checkpoint import files, safe_pickle
from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.files import kind_of, read, write
from convnext_mm.utils.errors import UserError
from tests.helpers.checkpoints import Evil

TENSORS = {
    'matrix': torch.arange(12.).reshape(3, 4),
    'transposed': torch.arange(12.).reshape(3, 4).t(),
    'part': torch.arange(20.)[5:9],
    'half': torch.arange(3.).half(),
    'bfloat16': torch.arange(3.).bfloat16(),
    'double': torch.arange(3.).double(),
    'long': torch.arange(3),
    'bool': torch.tensor([True, False]),
    'scalar': torch.tensor(7),
    'none': torch.empty(0, 3),
    'parameter': torch.nn.Parameter(torch.arange(2.)),
}
LEGACY = pytest.param(False, id='legacy')
ZIP = pytest.param(True, id='zip')


def save(content, path, new=True):
    torch.save(content, path, _use_new_zipfile_serialization=new)
    return path


@pytest.mark.parametrize('new', [ZIP, LEGACY])
def test_all_kinds_of_tensors(new, tmp_path):
    state_dict = torch.nn.BatchNorm1d(2).state_dict()
    content = read(save({'state_dict': {**TENSORS}, 'buffers': state_dict}, tmp_path / 'file.pth', new))
    for name, tensor in TENSORS.items():
        assert content['state_dict'][name].dtype == tensor.dtype
        assert torch.equal(content['state_dict'][name], tensor)
    assert isinstance(content['buffers'], collections.OrderedDict)
    assert content['buffers']._metadata == state_dict._metadata


@pytest.mark.parametrize('new', [ZIP, LEGACY])
def test_training_state(new, tmp_path):
    hub = MessageHub('reader', log_scalars={'train/loss': HistoryBuffer(max_length=1000)})
    for value in (1., 2., 6.):
        hub.update_scalar('train/loss', value)
    hub.update_info('best', np.float64(.5))
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {'message_hub': hub.state_dict(), 'optimizer': optimizer.state_dict(),
               'meta': {'epoch': 1, 'seed': np.int32(3), 'array': np.arange(6.).reshape(2, 3), 'tags': {'a', 'b'},
                        'fortran': np.asfortranarray(np.arange(6.).reshape(2, 3)), 'big': np.arange(3., dtype='>f8'),
                        'milestones': collections.Counter([8, 11, 11]), 'shape': torch.Size([1, 2]),
                        'CLASSES': ('a', 'b'), 'steps': collections.Counter([np.int64(4)]), 'ids': {np.int64(2)}},
               # As the official repository's training writes it.
               'args': argparse.Namespace(lr=4e-3, output_dir='out', crop=np.float32(.875), device=torch.device('cpu'))}
    loaded = read(save(content, tmp_path / 'file.pth', new))
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert history.mean() == 3.
    history.update(11.)
    assert history.statistics('max') == 11.
    assert loaded['message_hub']['runtime_info']['best'] == .5
    assert history.max_length == hub.get_scalar('train/loss').max_length != HistoryBuffer().max_length
    meta = dict(loaded['meta'])
    for key in ('array', 'fortran', 'big'):
        assert np.array_equal(meta.pop(key), content['meta'].pop(key))
    assert meta == content['meta']
    assert type(meta['milestones']) is collections.Counter
    assert str(loaded['optimizer']) == str(optimizer.state_dict())
    assert loaded['args'] == argparse.Namespace(lr=4e-3, output_dir='out', crop=.875, device='cpu')


def test_reading_shares_the_files_pages(tmp_path):
    path = save({'a': torch.zeros(1 << 20)}, tmp_path / 'file.pth')
    content = read(path)
    content['a'][0] = 1.
    assert read(path)['a'][0] == 0., 'a change must not reach the file'
    with open(f'/proc/{os.getpid()}/maps') as maps:
        assert str(path) in maps.read()


class Plain:
    """A class of the user's."""


def refused(path, *words):
    with pytest.raises(CheckpointError) as error:
        read(path)
    assert isinstance(error.value, UserError)
    assert '\n' not in str(error.value)
    assert str(path) in str(error.value)
    for word in words:
        # The folder is named after the test, and so holds many a word.
        assert word in str(error.value).replace(str(path), '')


@pytest.mark.parametrize('new', [ZIP, LEGACY])
def test_code_is_refused_by_name_and_not_run(new, tmp_path):
    mark = tmp_path / 'mark'
    refused(save({'a': Evil(mark)}, tmp_path / 'evil.pth', new), f'{os.mkdir.__module__}.mkdir', '--trust-checkpoint')
    refused(save({'a': Plain()}, tmp_path / 'plain.pth', new), 'test_files.Plain')
    assert not mark.exists()


@pytest.fixture
def trust():
    files.trust_pickles()
    yield
    files.trust_pickles(False)


@pytest.mark.parametrize('new', [ZIP, LEGACY])
def test_trust_is_the_way_past(new, tmp_path):
    mark = tmp_path / 'mark'
    path = save({'a': Evil(mark), 'b': np.array([None, {}])}, tmp_path / 'evil.pth', new)
    files.trust_pickles()
    try:
        assert read(path)['b'].tolist() == [None, {}]
    finally:
        files.trust_pickles(False)
    assert mark.is_dir()
    refused(path, 'mkdir')
    refused(save({'b': np.array([None, {}])}, path, new), 'wants a numpy array of objects', '--trust-checkpoint')


class Gone(Plain):
    """Stands for a class of a module that is not installed here."""

    def __reduce__(self):
        return int, ('x',)


def test_trusted_files_are_checked_all_the_same(trust, tmp_path):
    refused(save({'a': Gone()}, tmp_path / 'gone.pth'), 'asks for code that fails here (ValueError: invalid literal')
    path = save({'a': torch.full((500,), 123.5), 'b': Plain()}, tmp_path / 'file.pth')
    assert type(read(path)['b']) is Plain
    damage_record(path)
    refused(path, 'checksum of')
    truncate(.5)(path)
    refused(path, 'truncated')


def pickled(*operations):
    return b'\x80\x02' + b''.join(operations) + b'.'


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def text(value):
    return b'X' + struct.pack('<I', len(value)) + value.encode()


NUMPY = 'numpy._core.multiarray' if np.lib.NumpyVersion(np.__version__) >= '2.0.0' else 'numpy.core.multiarray'
#: Programs in pickle's own operations that try to get somewhere by what is allowed.
ATTACKS = {
    'getattr to a module': pickled(name('__builtin__', 'getattr'), name('collections', 'OrderedDict'), text('__init__'),
                                   b'\x86R', text('x'), b'\x85R'),
    'a dotted name': pickled(name('collections', 'OrderedDict.__init__.__globals__')),
    'change an allowed function': pickled(name('torch._utils', '_rebuild_tensor_v2'), b'N}', text('__doc__'), b'Ns',
                                          b'\x86b'),
    'change an allowed class': pickled(name('mmengine.logging.history_buffer', 'HistoryBuffer'), b'N}',
                                       text('__doc__'), b'Ns', b'\x86b'),
    'change a stand-in': pickled(name('argparse', 'Namespace'), b'}', text('a'), b'Nsb'),
    'a namespace made by a call': pickled(name('argparse', 'Namespace'), text('tensor'), b'\x85R'),
    'a protocol 4 name': b'\x80\x04\x8c\x02os\x8c\x06system\x93.',
    'an old instance': b'\x80\x02(ios\nsystem\n.',
    'an extension': b'\x80\x02\x82\x01.',
    'an array of objects': pickled(name(NUMPY, 'scalar'), name('numpy', 'dtype'), text('O8'), b'\x89\x88\x87R',
                                   text('12345678'), b'\x86R'),
    'a storage that is not there': pickled(name('torch._utils', '_rebuild_tensor_v2'), b'((', text('storage'),
                                           name('torch', 'FloatStorage'), text('9'), text('cpu'), b'K\x08tQK\x00',
                                           b'K\x08\x85K\x01\x85\x89NtR'),
}


def zip_with(program, path, **records):
    """A file as torch.save writes it, around any pickle."""
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', program)
        for key, data in records.items():
            archive.writestr(f'archive/data/{key}', data)
    return path


@pytest.mark.parametrize('attack', ATTACKS)
def test_hand_written_pickles_get_nowhere(attack, tmp_path):
    allowed = dict(safe_pickle.ALLOWED)
    # In a dict, so that what the program leaves would be content.
    program = ATTACKS[attack]
    body = program[2:-1]
    refused(zip_with(program[:2] + b'}' + text('a') + body + b's.', tmp_path / 'file.pth'))
    assert allowed == safe_pickle.ALLOWED
    assert torch._utils._rebuild_tensor_v2.__code__.co_name == '_rebuild_tensor_v2'


def test_a_number_for_bytes_reserves_no_memory(tmp_path):
    number = b'\x8a\x08' + (1 << 50).to_bytes(8, 'little')
    program = pickled(b'}', text('a'), name('torch.storage', '_load_from_bytes'), number, b'\x85Rs')
    with pytest.raises(CheckpointError, match='TypeError'):
        read(zip_with(program, tmp_path / 'file.pth'))


@pytest.mark.parametrize(('size', 'stride', 'offset'), [(9, 1, 0), (4, 3, 0), (8, 1, 1), (1, 1, -1), (-1, 1, 0)])
def test_tensors_stay_within_their_storage(size, stride, offset, tmp_path):
    def number(value):
        return b'J' + struct.pack('<i', value)

    program = pickled(b'}', text('a'), name('torch._utils', '_rebuild_tensor_v2'), b'((', text('storage'),
                      name('torch', 'FloatStorage'), text('0'), text('cpu'), b'K\x08tQ', number(offset), number(size),
                      b'\x85', number(stride), b'\x85\x89NtR', b's')
    refused(zip_with(program, tmp_path / 'file.pth', **{'0': bytes(32)}), 'damaged')
    good = program.replace(number(offset) + number(size), number(0) + number(8)).replace(number(stride), number(1))
    assert read(zip_with(good, tmp_path / 'good.pth', **{'0': bytes(32)}))['a'].shape == (8,)
    refused(zip_with(good, tmp_path / 'short.pth', **{'0': bytes(28)}), 'storage 0 has 28 bytes of 32')


def test_unpickler_alone_executes_nothing():
    # What is refused above is refused by name, not by chance further on.
    for module, attribute in (('os', 'system'), ('builtins', 'eval'), ('builtins', 'exec'), ('torch', 'load'),
                              ('numpy', 'load'), ('mmengine', 'load'), ('builtins', '__import__'),
                              ('torch.nn.modules.linear', 'Linear')):
        with pytest.raises(CheckpointError, match=re.escape(f'{module}.{attribute}')):
            safe_pickle.SafeUnpickler(io.BytesIO(pickled(name(module, attribute)))).load()


@pytest.mark.parametrize('pid', [
    ('storage', torch.float32, '0', 'cpu', 1, ('1', 0, 1)), ('module', torch.float32, '0', 'cpu', 1),
    ('storage', 'FloatStorage', '0', 'cpu', 1)])
def test_what_is_no_storage(pid):
    with pytest.raises(CheckpointError, match='is no storage'):
        safe_pickle.SafeUnpickler(io.BytesIO()).persistent_load(pid)


def damage_record(path):
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack('<f', 123.5))
    data[at] ^= 1
    path.write_bytes(data)


def from_a_big_endian_machine(path):
    with zipfile.ZipFile(path) as content:
        records = {entry: content.read(entry) for entry in content.namelist()}
    folder = next(iter(records)).split('/')[0]
    with zipfile.ZipFile(path, 'w') as archive:
        for entry, data in {**records, f'{folder}/byteorder': b'big'}.items():
            archive.writestr(entry, data)


def recompress(path):
    content = zipfile.ZipFile(path)
    records = {entry: content.read(entry) for entry in content.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for entry, data in records.items():
            archive.writestr(entry, data)


def truncate(share):
    return lambda path: path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])


DAMAGES = {
    'flipped bit': (damage_record, 'checksum of'),
    'half': (truncate(.5), 'truncated'),
    'nearly whole': (truncate(.99), 'truncated'),
    'empty': (truncate(0), 'is empty'),
    'HTML': (lambda path: path.write_text('\n<!DOCTYPE html><html>404</html>'), 'HTML'),
    'Git LFS': (lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n'), 'git lfs'),
    'JSON': (lambda path: path.write_text('{"a": 1}'), 'JSON'),
    'text': (lambda path: path.write_text('weights'), 'neither'),
    'gzip': (lambda path: path.write_bytes(b'\x1f\x8b' + bytes(80)), 'gzip'),
    'another pickle': (lambda path: path.write_bytes(pickle.dumps({'a': 1})), "not one of torch.save's"),
    'another zip': (lambda path: zipfile.ZipFile(path, 'w').writestr('a.txt', 'a'), 'no data.pkl'),
    'compressed': (recompress, 'compressed'),
    'another byte order': (from_a_big_endian_machine, 'big-endian'),
    'a list': (lambda path: torch.save([1], path), 'holds a list'),
    'gone': (lambda path: path.unlink(), 'no file that exists'),
    'folder': (lambda path: (path.unlink(), path.mkdir()), 'is a folder'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_files(damage, tmp_path):
    path = save({'a': torch.full((500,), 123.5)}, tmp_path / 'file.pth')
    change, words = DAMAGES[damage]
    change(path)
    refused(path, words)


@pytest.mark.parametrize('share', [.05, .5, .99])
def test_truncated_legacy_files(share, tmp_path):
    path = save({'a': torch.full((500,), 123.5)}, tmp_path / 'file.pth', False)
    truncate(share)(path)
    refused(path, 'truncated')


@pytest.mark.parametrize('share', [.02, .5, .99])
def test_truncated_safetensors(share, tmp_path):
    path = tmp_path / 'file.safetensors'
    write({'a': torch.full((500,), 123.5)}, path)
    truncate(share)(path)
    refused(path)


@pytest.mark.parametrize(('ending', 'kind'), [('.pth', 'zip'), ('.bin', 'zip'), ('.safetensors', 'safetensors')])
def test_write(ending, kind, tmp_path):
    path = tmp_path / f'file{ending}'
    write(TENSORS, path)
    assert kind_of(path) == kind
    content = read(path)
    assert content.keys() == TENSORS.keys()
    for key, tensor in TENSORS.items():
        assert torch.equal(content[key], tensor)
    assert os.listdir(tmp_path) == [path.name], 'nothing half-written may stay'
    if ending == '.safetensors':
        safetensors = pytest.importorskip('safetensors')
        with safetensors.safe_open(path, 'pt') as file:
            assert file.metadata() == {'format': 'pt'}, 'transformers asks for it'
    else:
        assert torch.load(path, weights_only=True).keys() == TENSORS.keys()


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_tensors_are_written_without_what_they_share(ending, tmp_path):
    whole = torch.arange(float(1 << 16))
    path = tmp_path / f'file{ending}'
    write({'part': whole[:2], 'same': whole[:2], 'other': whole[1:3]}, path)
    assert path.stat().st_size < 4096
    content = read(path)
    assert [content[name].tolist() for name in ('part', 'same', 'other')] == [[0, 1], [0, 1], [1, 2]]


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
def test_a_file_is_replaced_whole(ending, tmp_path):
    path = tmp_path / f'file{ending}'
    write({'a': torch.zeros(1 << 12)}, path)
    with open(path, 'rb') as file:
        before = file.read()
        write({'a': read(path)['a'] + 1}, path)
        file.seek(0)
        assert file.read() == before, 'whoever reads the old file goes on reading it'
    assert read(path)['a'].sum() == 1 << 12


def test_write_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    path = save({'a': torch.ones(1)}, tmp_path / 'file.pth')
    monkeypatch.setattr(torch, 'save', lambda *args: (open(args[1], 'w').close(), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        write({'a': torch.zeros(1)}, path)
    assert os.listdir(tmp_path) == ['file.pth']
    assert read(path)['a'] == 1
    with pytest.raises(CheckpointError, match='cannot be written: No such file'):
        write({}, tmp_path / 'none' / 'file.pth')
    assert os.listdir(tmp_path) == ['file.pth']


def test_files_with_a_checksum_in_the_zip_comment_are_read(tmp_path):
    # Earlier versions of this project wrote the SHA-256 of the file there; the checksums of the records do its work.
    path = save({'a': torch.full((500,), 123.5)}, tmp_path / 'file.pth')
    content = path.read_bytes()
    body = content[:-2] + struct.pack('<H', 83)
    path.write_bytes(body + b'convnext_mm sha256 ' + hashlib.sha256(body).hexdigest().encode())
    with zipfile.ZipFile(path) as archive:
        assert archive.comment.startswith(b'convnext_mm sha256 ')
    assert torch.equal(read(path)['a'], torch.full((500,), 123.5))
    damage_record(path)
    refused(path, 'checksum of')


def test_checksums_are_those_of_the_records(tmp_path):
    path = save({'a': torch.full((500,), 123.5)}, tmp_path / 'file.pth')
    with zipfile.ZipFile(path) as archive:
        assert all(zlib.crc32(archive.read(info)) == info.CRC for info in archive.infolist())
