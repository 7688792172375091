"""Checkpoint files in and out, without running anything that is written in them.

A ``.pth`` is a pickle, and a pickle can name any function to be called. The reader here resolves the few names that
tensors, containers and mmengine's training state need, to stand-ins that hold data and do nothing; a file that asks
for more is refused with the name of what it wanted. It is used with every version of torch: torch's own
``weights_only`` mode has published holes below 2.6 (CVE-2025-32434) and below 2.10 (CVE-2026-24747).
"""
import argparse
import functools
import io
import mmap
import os
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections import Counter, OrderedDict

import torch

from convnext_mm.checkpoint.errors import CheckpointError, Refused

#: First bytes of the format that torch wrote before 1.6: the pickled number 0x1950a86a20f9469cfc6c.
LEGACY_MAGIC = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
#: What a file starts with that is no checkpoint, and what to say about it.
MISTAKES = (
    (b'<', 'an HTML or XML page, not weights: the address it came from answered with a web page'),
    (b'version https://git-lfs', 'a Git LFS pointer, not the weights themselves: fetch them with `git lfs pull`'),
    (b'\x1f\x8b', 'gzip-compressed: unpack it first'),
    (b'{', 'JSON text, such as a message of a server, or the index of a checkpoint in several files: save that as one'),
    (b'\x80', "a pickle, but not one of torch.save's: convert it to .safetensors where it was made"),
)
_STORAGES = {
    'DoubleStorage': torch.float64, 'FloatStorage': torch.float32, 'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16, 'LongStorage': torch.int64, 'IntStorage': torch.int32,
    'ShortStorage': torch.int16, 'CharStorage': torch.int8, 'ByteStorage': torch.uint8, 'BoolStorage': torch.bool,
}
_trust_pickles = False


def trust_pickles(trust=True):
    """Let ``read`` execute what pickles ask for, from now on in this process (``--trust-checkpoint``)."""
    global _trust_pickles
    _trust_pickles = trust


def read(path):
    """The content of a checkpoint file, as it was saved.

    Args:
        path (str | Path): A file written by ``torch.save`` (either of its formats), or a ``.safetensors`` file.

    Returns:
        dict: Tensors are on the CPU and share the file's pages until they are written to (nothing is read twice);
        copy what must outlive the file.

    Raises:
        CheckpointError: The file is missing, empty, truncated, damaged (its zip checksums are verified), of another
            kind, or asks for a class beyond tensors and mmengine's training state.
    """
    path = os.fspath(path)
    content = _READERS[kind_of(path)](path)
    if not isinstance(content, dict):
        raise CheckpointError(f'{path!r} holds a {type(content).__name__}, not a dict of tensors')
    return content


def read_dump(path):
    """The content of a plain pickle of containers, numbers and tensors, as mmengine's ``dump`` writes results.

    Raises:
        CheckpointError: The file is damaged, or asks for anything else.
    """
    return _read_safely(lambda file, pages: _finish(_Unpickler(pages).load(), None), os.fspath(path))


def kind_of(path):
    """``zip``, ``legacy`` (torch's two formats) or ``safetensors``, by a file's first bytes.

    Raises:
        CheckpointError: It is none of these.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise CheckpointError(f'{path!r} is {"a folder" if os.path.isdir(path) else "no file that exists"}; expected '
                              'a checkpoint file (.pth, .pt, .bin or .safetensors)')
    try:
        with open(path, 'rb') as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(f'{path!r} cannot be read: {error.strerror}') from error
    if not start:
        raise CheckpointError(f'{path!r} is empty; fetch or write it again')
    if start.startswith(b'PK\x03\x04'):
        return 'zip'
    if start.startswith(LEGACY_MAGIC):
        return 'legacy'
    # Eight bytes of header length, then a JSON object.
    if len(start) > 8 and start[8:9] == b'{' and struct.unpack('<Q', start[:8])[0] < 100 << 20:
        return 'safetensors'
    what = next((what for magic, what in MISTAKES if start.lstrip().startswith(magic)),
                'neither a file of torch.save nor a .safetensors file')
    raise CheckpointError(f'{path!r} is {what}')


def write(tensors, path):
    """Save a flat dict of tensors, as ``.safetensors`` or (any other ending) in torch's format.

    The file appears under its name when it is complete. Tensors are made contiguous and get memory of their own.
    """
    path = os.fspath(path)
    tensors = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        # Fails here for want of permission, in the same way for both formats.
        open(temporary, 'wb').close()
        if path.endswith('.safetensors'):
            # transformers asks for this entry when it loads such a file.
            _safetensors().torch.save_file(tensors, temporary, metadata={'format': 'pt'})
        else:
            torch.save(tensors, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(f'{path!r} cannot be written: {error.strerror or error}') from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _safetensors():
    try:
        import safetensors.torch
    except ImportError:
        raise CheckpointError('.safetensors files need the safetensors package: pip install safetensors') from None
    return safetensors


def _read_safetensors(path):
    safetensors = _safetensors()
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f'{path!r} is a truncated or damaged .safetensors file ({error}); fetch or write it '
                              'again') from error


def _read_pickle(read_format, path):
    try:
        return _read_safely(read_format, path)
    except Refused:
        if _trust_pickles:
            return _load_trusted(path)
        raise


def _read_safely(read_format, path):
    with open(path, 'rb') as file:
        try:
            # Never closed by hand: the tensors share the mapping, and it ends with the last of them.
            return read_format(file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        except Refused as error:
            raise Refused(f'{path!r} {error}') from error
        except CheckpointError as error:
            raise CheckpointError(f'{path!r} {error}') from error
        except Exception as error:
            # Damage surfaces as nearly any exception of the unpickler or of torch.
            raise CheckpointError(f'{path!r} is truncated or damaged ({type(error).__name__}: {error}); fetch or '
                                  'write it again') from error


def _load_trusted(path):
    try:
        return torch.load(path, map_location='cpu', weights_only=False, mmap=kind_of(path) == 'zip')
    except Exception as error:
        # What a pickle calls may raise anything; most often a module is not installed here.
        raise CheckpointError(f'{path!r} asks for code that fails here ({type(error).__name__}: {error}); load it '
                              'where it was made and save its tensors alone') from error


def _read_zip(file, pages):
    """torch's format since 1.6: a zip of one pickle and, uncompressed, one record per storage."""
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: _record(pages, info) for info in archive.infolist()}
    main = [name for name in records if name.endswith('/data.pkl') and name.count('/') == 1]
    if len(main) != 1:
        raise CheckpointError('is a zip file, but not one of torch.save: it holds no data.pkl')
    folder = main[0][:-len('data.pkl')]
    start, size = records[main[0]]
    if bytes(_slice(pages, records.get(folder + 'byteorder', (0, 0)))) not in (b'', b'little'):
        raise CheckpointError('was written on a big-endian machine; convert it there to .safetensors')

    def storage(dtype, key, count):
        start, size = records[f'{folder}data/{key}']
        if count * dtype.itemsize > size:
            raise CheckpointError(f'is damaged: storage {key} has {size} bytes of {count * dtype.itemsize}')
        return _tensor(pages, dtype, start, count)

    return _finish(_Unpickler(io.BytesIO(pages[start:start + size])).load(), storage)


def _record(pages, info):
    """Start and size of a zip record, its checksum verified."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError('is a compressed zip file, which torch.save does not write: unpack it first')
    name, extra = struct.unpack_from('<HH', pages, info.header_offset + 26)
    start = info.header_offset + 30 + name + extra
    if zlib.crc32(_slice(pages, (start, info.file_size))) != info.CRC:
        raise CheckpointError(f'is damaged: the checksum of {info.filename} does not hold; fetch or write it again')
    return start, info.file_size


def _slice(pages, record):
    start, size = record
    return memoryview(pages)[start:start + size]


def _tensor(pages, dtype, start, count):
    return torch.frombuffer(pages, dtype=dtype, offset=start, count=count) if count else torch.empty(0, dtype=dtype)


def _read_legacy(file, pages):
    """torch's format before 1.6: four pickles (magic, version, machine, content), the storages' keys, the storages."""
    _Unpickler(file).load()
    if _Unpickler(file).load() != 1001:
        raise CheckpointError('has an unknown version of the format before torch 1.6')
    if not _Unpickler(file).load().get('little_endian', True):
        raise CheckpointError('was written on a big-endian machine; convert it there to .safetensors')
    unpickler = _Unpickler(file)
    content = unpickler.load()
    starts = {}
    keys = _Unpickler(file).load()
    position = file.tell()
    for key in keys:
        dtype, count = unpickler.storages[key]
        # Each storage is preceded by its number of elements, eight bytes.
        starts[key] = position + 8
        position += 8 + count * dtype.itemsize
    return _finish(content, lambda dtype, key, count: _tensor(pages, dtype, starts[key], count))


class _Record:
    """Stand-in for an object in a pickle: how it was made and the state it was given, nothing else.

    By itself it stands for mmengine's ``HistoryBuffer``, which a pickle creates from its class without arguments.
    A pickle that sets the state of this class, instead of an instance's, fails, as ``__setstate__`` lacks an argument.
    """

    __slots__ = ('kind', 'arguments', 'state')

    def __new__(cls, kind='history', *arguments):
        self = super().__new__(cls)
        self.kind, self.arguments, self.state = kind, arguments, None
        return self

    def __setstate__(self, state):
        self.state = state


class _Namespace(_Record):
    """Stand-in for an ``argparse.Namespace``, in which the official training code keeps its command line."""

    __slots__ = ()

    def __new__(cls):
        return super().__new__(cls, 'namespace')


def _named(function):
    """A callable that a pickle may get by name: unlike those of a function, its attributes cannot be set."""
    return function.__call__


def _maker(kind):
    return _named(lambda *arguments: _Record(kind, *arguments))


def _encode(text, encoding):
    # Bytes are written as latin-1 text by pickle's protocol 2.
    return text.encode(encoding if encoding == 'latin1' else 'ascii')


#: What a pickle may ask for by name, and what it gets.
ALLOWED = {
    'collections.OrderedDict': OrderedDict,
    'torch._utils._rebuild_tensor_v2': _maker('tensor'),
    # A tensor's elements in a plain pickle: a file of torch's older format within it.
    'torch.storage._load_from_bytes': _maker('bytes'),
    'torch._utils._rebuild_parameter': _named(lambda data, requires_grad=True, hooks=None: data),
    'torch.Size': _named(tuple),
    'torch.device': _named(lambda *parts: ':'.join(map(str, parts))),
    # What mmengine keeps of a training run: milestones, histories of numbers, their statistics, numpy's numbers.
    'collections.Counter': _maker('counter'),
    'mmengine.logging.history_buffer.HistoryBuffer': _Record,
    'argparse.Namespace': _Namespace,
    'builtins.getattr': _named(lambda owner, name: None),
    'builtins.set': set,
    'numpy.ndarray': 'ndarray',
    'numpy.dtype': _maker('dtype'),
    '_codecs.encode': _named(_encode),
    **{f'numpy.{core}.multiarray.{name}': _maker(kind) for core in ('core', '_core')
       for name, kind in (('_reconstruct', 'array'), ('scalar', 'scalar'))},
    **{f'torch.{name}': dtype for name, dtype in _STORAGES.items()},
    **{str(dtype): dtype for dtype in _STORAGES.values()},
}


_WANTS = ('wants {}, which is no tensor and is not loaded, as it could run code: if you trust the file, say so with '
          '--trust-checkpoint, or convert it to .safetensors where it was made')


class _Unpickler(pickle.Unpickler):
    """Unpickles into containers, numbers, text and ``_Record``; every name outside ``ALLOWED`` is an error.

    Args:
        file (mmap | BytesIO): What makes no room for more than there is to read, as a file does for a damaged length.
    """

    def __init__(self, file):
        super().__init__(file, encoding='latin1')
        self._file, self.storages = file, {}

    def load(self):
        start = self._file.tell()
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self._file)):
            # Python makes room for whatever place a pickle names, 64 GB for four damaged bytes; places are counted up.
            if opcode.name in ('PUT', 'LONG_BINPUT') and argument > number:
                raise CheckpointError(f'is damaged: its pickle counts {argument} objects where {number} may be')
        self._file.seek(start)
        return super().load()

    def find_class(self, module, name):
        full_name = f'{"builtins" if module == "__builtin__" else module}.{name}'
        if full_name not in ALLOWED:
            raise Refused(_WANTS.format(full_name))
        return ALLOWED[full_name]

    def persistent_load(self, pid):
        kind, dtype, key, _, count, *view = pid
        if kind != 'storage' or dtype not in _STORAGES.values() or any(view):
            raise CheckpointError(f'is damaged: {pid!r} is no storage')
        self.storages[key] = dtype, count
        return _Record('storage', dtype, key, count)


def _finish(node, storage):
    """Turn the stand-ins below ``node`` into tensors, arrays and numbers; ``storage`` gives a storage's elements."""
    if isinstance(node, _Record):
        return _FINISHERS[node.kind](node, lambda child: _finish(child, storage), storage)
    if isinstance(node, dict):
        # By way of dict: an OrderedDict's own items could be shadowed by an attribute from the file.
        finished = type(node)((_finish(key, storage), _finish(value, storage)) for key, value in dict.items(node))
        if isinstance(getattr(node, '_metadata', None), dict):
            finished._metadata = _finish(node._metadata, storage)
        return finished
    return type(node)(_finish(child, storage) for child in node) if type(node) in (list, tuple, set) else node


def _finish_counter(record, finish, storage):
    return Counter(finish(*record.arguments))


def _finish_tensor(record, finish, storage):
    source, offset, size, stride, *_ = record.arguments
    elements = finish(source) if source.kind == 'bytes' else storage(*source.arguments)
    return elements.as_strided(size, stride, offset)


def _finish_storage(record, finish, storage):
    return storage(*record.arguments)


def _finish_bytes(record, finish, storage):
    content, = record.arguments
    return _read_legacy(io.BytesIO(content), bytearray(content))


def _finish_dtype(record, finish, storage):
    import numpy as np
    dtype = np.dtype(record.arguments[0])
    if dtype.hasobject:
        raise Refused(_WANTS.format('a numpy array of objects'))
    # The state's second entry is the byte order.
    return dtype.newbyteorder(record.state[1]) if record.state else dtype


def _finish_array(record, finish, storage):
    import numpy as np
    _, shape, dtype, fortran, data = record.state
    return np.frombuffer(data, finish(dtype)).reshape(shape, order='F' if fortran else 'C').copy()


def _finish_scalar(record, finish, storage):
    import numpy as np
    dtype, data = record.arguments
    return np.frombuffer(data, finish(dtype))[0]


def _finish_history(record, finish, storage):
    from mmengine.logging import HistoryBuffer
    state = record.state
    history = HistoryBuffer(max_length=int(state['max_length']))
    history._log_history, history._count_history = finish(state['_log_history']), finish(state['_count_history'])
    return history


def _finish_namespace(record, finish, storage):
    return argparse.Namespace(**finish(record.state))


_FINISHERS = {'tensor': _finish_tensor, 'storage': _finish_storage, 'bytes': _finish_bytes, 'dtype': _finish_dtype,
              'array': _finish_array, 'scalar': _finish_scalar, 'counter': _finish_counter, 'history': _finish_history,
              'namespace': _finish_namespace}
_READERS = {'zip': functools.partial(_read_pickle, _read_zip),
            'legacy': functools.partial(_read_pickle, lambda file, pages: _read_legacy(pages, pages)),
            'safetensors': _read_safetensors}
