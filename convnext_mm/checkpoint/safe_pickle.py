"""Unpickle checkpoints without running anything that is written in them.

A pickle is a program: it names functions and classes, and Python's unpickler imports and calls them, so a file of
weights from a stranger can delete files or start a shell while it is loaded. This module stops that in three steps.
A name that is not in ``ALLOWED`` is an error that tells the name. An allowed name gives the pickle a stand-in, which
records how the object was to be made and does nothing else. Only after the whole pickle is read does ``Rebuilder``
turn the records into tensors, arrays and numbers, by code of this module. Every version of torch reads this way, as
torch's own ``weights_only`` mode has published holes below 2.6 (CVE-2025-32434) and below 2.10 (CVE-2026-24747).
"""
import argparse
import pickle
import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from convnext_mm.checkpoint.errors import CheckpointError, Refused

#: Names of torch's storages in a pickle, and the type of their elements.
STORAGES = {
    'DoubleStorage': torch.float64, 'FloatStorage': torch.float32, 'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16, 'LongStorage': torch.int64, 'IntStorage': torch.int32,
    'ShortStorage': torch.int16, 'CharStorage': torch.int8, 'ByteStorage': torch.uint8, 'BoolStorage': torch.bool,
}


class StandIn:
    """Stands for an object of a pickle: records its kind, the arguments of its making and its state.

    A pickle may also try to set the state of a stand-in's class: that fails, as ``__setstate__`` lacks an argument.
    """

    __slots__ = ('arguments', 'kind', 'state')
    kind: str
    arguments: tuple
    state: Any

    def __new__(cls, kind, *arguments):
        self = super().__new__(cls)
        self.kind, self.arguments, self.state = kind, arguments, None
        return self

    def __setstate__(self, state):
        self.state = state


class HistoryStandIn(StandIn):
    """Stands for mmengine's ``HistoryBuffer``, which a pickle makes from the class without arguments."""

    __slots__ = ()

    def __new__(cls):
        return super().__new__(cls, 'history')


class NamespaceStandIn(StandIn):
    """Stands for an ``argparse.Namespace``, in which the official training code keeps its command line."""

    __slots__ = ()

    def __new__(cls):
        return super().__new__(cls, 'namespace')


def _protect(function):
    """Return a callable for a pickle that calls ``function``; a pickle could set the attributes of the function."""
    return function.__call__


def _record_as(kind):
    """Return a callable for a pickle that calls no code, but returns a ``StandIn`` with the arguments of the call."""
    return _protect(lambda *arguments: StandIn(kind, *arguments))


def _encode(text, encoding):
    # Pickle's protocol 2 writes bytes as latin-1 text.
    return text.encode(encoding if encoding == 'latin1' else 'ascii')


#: What a pickle may ask for by name, and what it gets.
ALLOWED = {
    'collections.OrderedDict': OrderedDict,
    'torch._utils._rebuild_tensor_v2': _record_as('tensor'),
    # A tensor's elements in a plain pickle: a file of torch's older format within it.
    'torch.storage._load_from_bytes': _record_as('file'),
    'torch._utils._rebuild_parameter': _protect(lambda data, requires_grad=True, hooks=None: data),
    'torch.Size': _protect(tuple),
    'torch.device': _protect(lambda *parts: ':'.join(map(str, parts))),
    # What mmengine keeps of a training run: milestones, histories of numbers, their statistics, numpy's numbers.
    'collections.Counter': _record_as('counter'),
    'mmengine.logging.history_buffer.HistoryBuffer': HistoryStandIn,
    'argparse.Namespace': NamespaceStandIn,
    'builtins.getattr': _protect(lambda owner, name: None),
    'builtins.set': set,
    'numpy.ndarray': 'ndarray',
    'numpy.dtype': _record_as('dtype'),
    '_codecs.encode': _protect(_encode),
    **{f'numpy.{core}.multiarray.{name}': _record_as(kind) for core in ('core', '_core')
       for name, kind in (('_reconstruct', 'array'), ('scalar', 'scalar'))},
    **{f'torch.{name}': dtype for name, dtype in STORAGES.items()},
    **{str(dtype): dtype for dtype in STORAGES.values()},
}


def _refuse(what):
    return Refused(f'wants {what}, which is no tensor and is not loaded, as it could run code: if you trust the file, '
                   'say so with --trust-checkpoint, or convert it to .safetensors where it was made')


class SafeUnpickler(pickle.Unpickler):
    """Unpickle into containers, numbers, text and stand-ins; a name outside ``ALLOWED`` is an error.

    Args:
        file (mmap | BytesIO): These reserve no memory for a damaged length, as a file object does.
    """

    def __init__(self, file):
        super().__init__(file, encoding='latin1')
        self._file = file
        #: Key -> type and number of elements, of each storage that the pickle named.
        self.storages = {}

    def load(self):
        """Return what the pickle holds; hand it to ``Rebuilder``."""
        start = self._file.tell()
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self._file)):
            # Python reserves memory up to the place that a pickle names, 64 GB for four damaged bytes. A sound pickle
            # counts its places up.
            if opcode.name in ('PUT', 'LONG_BINPUT') and (argument or 0) > number:
                raise CheckpointError(f'is damaged: its pickle counts {argument} objects where {number} may be')
        self._file.seek(start)
        return super().load()

    def find_class(self, module, name):
        """Return what stands for a name of the pickle."""
        full_name = f'{"builtins" if module == "__builtin__" else module}.{name}'
        if full_name not in ALLOWED:
            raise _refuse(full_name)
        return ALLOWED[full_name]

    def persistent_load(self, pid):
        """Return a stand-in for a storage, whose elements are kept outside the pickle."""
        kind, dtype, key, _, count, *view = pid
        if kind != 'storage' or dtype not in STORAGES.values() or any(view):
            raise CheckpointError(f'is damaged: {pid!r} is no storage')
        self.storages[key] = dtype, count
        return StandIn('storage', dtype, key, count)


class Rebuilder:
    """Turn what ``SafeUnpickler`` returns into tensors, arrays and numbers.

    Args:
        read_storage (Callable): Returns the elements of a storage, a flat tensor, by type, key and number of elements.
        read_file (Callable): Returns the content of a file of torch's older format by its bytes.
    """

    def __init__(self, read_storage: Callable, read_file: Callable):
        self._read_storage, self._read_file = read_storage, read_file
        self._by_kind = {'array': self._array, 'counter': self._counter, 'dtype': self._dtype, 'file': self._content,
                         'history': self._history, 'namespace': self._namespace, 'scalar': self._scalar,
                         'storage': self._storage, 'tensor': self._tensor}

    def rebuild(self, node: Any) -> Any:
        """Return a copy of ``node`` with objects in place of the stand-ins at any depth."""
        if isinstance(node, StandIn):
            return self._by_kind[node.kind](node)
        if isinstance(node, dict):
            # dict.items: a pickle can hide an OrderedDict's own method behind an attribute.
            rebuilt: Any = type(node)((self.rebuild(key), self.rebuild(value)) for key, value in dict.items(node))
            metadata = getattr(node, '_metadata', None)
            if isinstance(metadata, dict):
                rebuilt._metadata = self.rebuild(metadata)
            return rebuilt
        return type(node)(map(self.rebuild, node)) if type(node) in (list, tuple, set) else node

    def _tensor(self, record):
        source, offset, size, stride, *_ = record.arguments
        return self.rebuild(source).as_strided(size, stride, offset)

    def _storage(self, record):
        return self._read_storage(*record.arguments)

    def _content(self, record):
        content, = record.arguments
        return self._read_file(content)

    def _counter(self, record):
        return Counter(self.rebuild(*record.arguments))

    def _dtype(self, record):
        dtype = np.dtype(record.arguments[0])
        if dtype.hasobject:
            raise _refuse('a numpy array of objects')
        # The state's second entry is the byte order.
        return dtype.newbyteorder(record.state[1]) if record.state else dtype

    def _array(self, record):
        _, shape, dtype, fortran, data = record.state
        return np.frombuffer(data, self.rebuild(dtype)).reshape(shape, order='F' if fortran else 'C').copy()

    def _scalar(self, record):
        dtype, data = record.arguments
        return np.frombuffer(data, self.rebuild(dtype))[0]

    def _history(self, record):
        state = record.state
        history = HistoryBuffer(max_length=int(state['max_length']))
        history._log_history = self.rebuild(state['_log_history'])
        history._count_history = self.rebuild(state['_count_history'])
        return history

    def _namespace(self, record):
        return argparse.Namespace(**self.rebuild(record.state))
