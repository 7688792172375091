"""Read and write checkpoint files: torch's two formats and ``.safetensors``.

``safe_pickle`` says why torch's files are not simply unpickled.
"""
import functools
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

import torch

from convnext_mm.checkpoint.errors import CheckpointError, Refused
from convnext_mm.checkpoint.torch_formats import LEGACY_MAGIC, read_legacy, read_plain, read_zip
from convnext_mm.utils.files import whole_file

#: What a file starts with that is no checkpoint, and what to say about it.
MISTAKES = (
    (b'<', 'an HTML or XML page, not weights: the address it came from answered with a web page'),
    (b'version https://git-lfs', 'a Git LFS pointer, not the weights themselves: fetch them with `git lfs pull`'),
    (b'\x1f\x8b', 'gzip-compressed: unpack it first'),
    (b'{', 'JSON text, such as a message of a server, or the index of a checkpoint in several files: save that as one'),
    (b'\x80', "a pickle, but not one of torch.save's: convert it to .safetensors where it was made"),
)
#: Set by ``trust_pickles``. One global of the process: mmengine's functions pass on a file's name alone to whoever
#: reads the file, so no argument can bring the user's word from the command line to ``read``.
_trust_pickles = False


def trust_pickles(trust: bool = True) -> None:
    """Let ``read`` execute what pickles ask for, from now on in this process (``--trust-checkpoint``)."""
    global _trust_pickles
    _trust_pickles = trust


def read(path: str | Path) -> dict:
    """Return the content of a checkpoint file, as it was saved.

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
    return _read_dict(_READERS[kind_of(path)], path)


def read_unverified(path: str | Path) -> dict:
    """Return the content of a file of ``torch.save``, as ``read`` does, but do not verify the tensors.

    This takes milliseconds, whatever the size: tensors are read from the disk only when they are used.

    Raises:
        CheckpointError: As ``read`` does, except for damaged tensors.
    """
    path, kind = os.fspath(path), kind_of(path)
    unverified = functools.partial(_read_or_trust, functools.partial(read_zip, verify=False))
    return _read_dict(unverified if kind == 'zip' else _READERS[kind], path)


def _read_dict(reader, path):
    content = reader(path)
    if not isinstance(content, dict):
        raise CheckpointError(f'{path!r} holds a {type(content).__name__}, not a dict of tensors')
    return content


def read_dump(path: str | Path):
    """Return the content of a plain pickle of containers, numbers and tensors, as mmengine's ``dump`` writes results.

    Raises:
        CheckpointError: The file is damaged, or asks for anything else.
    """
    return _read_safely(read_plain, os.fspath(path))


def kind_of(path: str | Path) -> str:
    """Return ``zip``, ``legacy`` (torch's two formats) or ``safetensors``, by a file's first bytes.

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


def write(tensors: dict[str, torch.Tensor], path: str | Path) -> None:
    """Save a flat dict of tensors, as ``.safetensors`` or (any other ending) in torch's format.

    The file appears under its name when it is complete. Tensors are made contiguous and get memory of their own.

    Raises:
        CheckpointError: Its folder does not exist, or the safetensors package is missing.
        WriteError: The file cannot be written.
    """
    path = Path(path)
    if not path.parent.exists():
        raise CheckpointError(f'{str(path)!r} cannot be written: No such file or directory')
    tensors = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    with whole_file(path) as temporary:
        # Where permission is missing, this fails in the same way for both formats.
        temporary.touch()
        if path.suffix == '.safetensors':
            # transformers asks for this entry when it loads such a file.
            _safetensors().torch.save_file(tensors, temporary, metadata={'format': 'pt'})
        else:
            torch.save(tensors, temporary)


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


def _read_or_trust(read_pages, path):
    """Read a file safely; where it is refused, and the user trusts pickles, let torch execute it."""
    try:
        return _read_safely(read_pages, path)
    except Refused:
        if _trust_pickles:
            return _load_trusted(path)
        raise


def _read_safely(read_pages, path):
    """Return what ``read_pages`` makes of a file's pages; any failure is a ``CheckpointError`` that names the file."""
    with open(path, 'rb') as file:
        try:
            # Not closed here: the tensors share the mapping, and it ends with the last of them.
            return read_pages(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
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


_READERS: dict[str, Callable] = {
    'zip': functools.partial(_read_or_trust, read_zip),
    'legacy': functools.partial(_read_or_trust, read_legacy),
    'safetensors': _read_safetensors,
}
