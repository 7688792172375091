"""The layouts of the files of ``torch.save``: where the pickles and the elements of tensors lie in their pages."""
import io
import struct
import zipfile
import zlib

import torch

from convnext_mm.checkpoint.errors import CheckpointError
from convnext_mm.checkpoint.safe_pickle import Rebuilder, SafeUnpickler

#: First bytes of the format that torch wrote before 1.6: the pickled number 0x1950a86a20f9469cfc6c.
LEGACY_MAGIC = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_BIG_ENDIAN = 'was written on a big-endian machine; convert it there to .safetensors'


def read_zip(pages, verify=True):
    """Read torch's format since 1.6: a zip of one pickle and, uncompressed, one record per storage.

    Without ``verify``, check only the checksum of the pickle.
    """
    with zipfile.ZipFile(pages) as archive:
        records = {info.filename: _record(pages, info, verify or info.filename.endswith('.pkl'))
                   for info in archive.infolist()}
    main = [name for name in records if name.endswith('/data.pkl') and name.count('/') == 1]
    if len(main) != 1:
        raise CheckpointError('is a zip file, but not one of torch.save: it holds no data.pkl')
    folder = main[0][:-len('data.pkl')]
    start, size = records[main[0]]
    if bytes(_slice(pages, records.get(folder + 'byteorder', (0, 0)))) not in (b'', b'little'):
        raise CheckpointError(_BIG_ENDIAN)

    def read_storage(dtype, key, count):
        start, size = records[f'{folder}data/{key}']
        if count * dtype.itemsize > size:
            raise CheckpointError(f'is damaged: storage {key} has {size} bytes of {count * dtype.itemsize}')
        return _tensor(pages, dtype, start, count)

    content = SafeUnpickler(io.BytesIO(pages[start:start + size])).load()
    return Rebuilder(read_storage, _read_legacy_bytes).rebuild(content)


def _record(pages, info, verify):
    """Return the start and size of a zip record; verify its checksum if asked to."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError('is a compressed zip file, which torch.save does not write: unpack it first')
    name, extra = struct.unpack_from('<HH', pages, info.header_offset + 26)
    start = info.header_offset + 30 + name + extra
    if verify and zlib.crc32(_slice(pages, (start, info.file_size))) != info.CRC:
        raise CheckpointError(f'is damaged: the checksum of {info.filename} does not hold; fetch or write it again')
    return start, info.file_size


def _slice(pages, record):
    start, size = record
    return memoryview(pages)[start:start + size]


def _tensor(pages, dtype, start, count):
    return torch.frombuffer(pages, dtype=dtype, offset=start, count=count) if count else torch.empty(0, dtype=dtype)


def read_legacy(pages, file=None):
    """Read torch's format before 1.6: four pickles (magic, version, machine, content), keys of storages, storages.

    Args:
        pages (mmap | bytearray): The whole file.
        file (BytesIO, optional): The same, to read from. Defaults to ``pages``.
    """
    file = file or pages
    SafeUnpickler(file).load()
    if SafeUnpickler(file).load() != 1001:
        raise CheckpointError('has an unknown version of the format before torch 1.6')
    if not SafeUnpickler(file).load().get('little_endian', True):
        raise CheckpointError(_BIG_ENDIAN)
    unpickler = SafeUnpickler(file)
    content = unpickler.load()
    starts = {}
    keys = SafeUnpickler(file).load()
    position = file.tell()
    for key in keys:
        dtype, count = unpickler.storages[key]
        # Each storage is preceded by its number of elements, eight bytes.
        starts[key] = position + 8
        position += 8 + count * dtype.itemsize

    def read_storage(dtype, key, count):
        return _tensor(pages, dtype, starts[key], count)

    return Rebuilder(read_storage, _read_legacy_bytes).rebuild(content)


def read_plain(pages):
    """Read a pickle with nothing beside it; its tensors, if any, are files of the older format within it."""
    return Rebuilder(_lack_storage, _read_legacy_bytes).rebuild(SafeUnpickler(pages).load())


def _lack_storage(dtype, key, count):
    raise CheckpointError(f'is damaged: its storage {key} is not there')


def _read_legacy_bytes(content):
    # BytesIO refuses a number, for which bytearray would reserve as many bytes.
    file = io.BytesIO(content)
    return read_legacy(bytearray(content), file)
