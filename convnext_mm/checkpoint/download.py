"""Find checkpoints, and fetch published ones into a cache folder: resumed, checked, from a mirror if one is named.

The cache is torch's (``TORCH_HOME``, else ``$XDG_CACHE_HOME/torch``, ``hub/checkpoints`` below), so files that timm,
mmengine or torchvision fetched are found.
"""
import contextlib
import difflib
import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import torch.hub
from filelock import FileLock
from rich.filesize import decimal

from convnext_mm.checkpoint.errors import CheckpointError, Refused
from convnext_mm.checkpoint.files import read
from convnext_mm.published.weights import weights
from convnext_mm.utils.files import sha256
from convnext_mm.utils.progress import Bar, Line

MIRROR = 'CONVNEXT_MM_MIRROR'
_HTTP = ('http://', 'https://')
_CHUNK = 1 << 20
#: Checksums are published in file names, as torchvision and OpenMMLab do: the start of the SHA-256.
_CHECKSUM = re.compile(r'-([0-9a-f]{8,64})\.(?:pth|pt|bin|safetensors)$')


def locate(source: str | Path) -> str:
    """Return the path of a checkpoint; fetch it into the cache first unless it is there.

    Args:
        source (str | Path): See ``resolve``.

    Raises:
        CheckpointError: It is none of these, or cannot be fetched.
    """
    path = resolve(source)
    return fetch(path) if path.startswith(_HTTP) else path


def resolve(source: str | Path) -> str:
    """Return the path or http(s) address that a checkpoint is meant by; fetch nothing.

    Args:
        source (str | Path): A path, an http(s) or file address, or a short name of ``convnext_mm.published.weights``.

    Raises:
        CheckpointError: It is none of these.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise CheckpointError(f'checkpoint must be a path, an address or a short name such as convnext_tiny_in1k, got '
                              f'{source!r}')
    source = os.fspath(source)
    path = os.path.expanduser(source)
    if source.startswith('file://'):
        path = urllib.request.url2pathname(urllib.parse.urlsplit(source).path)
    if os.path.exists(path):
        return path
    if source in weights():
        return weights()[source].url
    if source.startswith(_HTTP):
        return source
    close = difflib.get_close_matches(source, weights(), n=3)
    hint = f'; did you mean {" or ".join(close)}?' if close else ''
    raise CheckpointError(f'checkpoint {source!r} is no file that exists, no http(s) address and no short name such as '
                          f'convnext_tiny_in1k{hint}')


def cache_folder() -> Path:
    """Return the folder where fetched files are kept."""
    return Path(torch.hub.get_dir(), 'checkpoints')


def cache_path(url: str) -> Path:
    """Return where a fetched file is kept.

    A file that is published, or whose name tells its checksum, lies where torch keeps it. Any other name, such as
    ``model.safetensors``, may be that of many files, so each address has a folder of its own.
    """
    name = Path(urllib.parse.urlsplit(url).path).name
    if name in ('', '..'):
        raise CheckpointError(f'address {url!r} names no file; expected one that ends in a file name')
    if _CHECKSUM.search(name) or any(url == row.url for row in weights().values()):
        return cache_folder() / name
    return cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / name


def fetch(url: str) -> str:
    """Fetch ``url`` into the cache unless it is there; return the path.

    An interrupted download goes on where it stopped. With ``CONVNEXT_MM_MIRROR`` set, the file is taken from below
    that address instead, by its path on the original server or by its name alone.

    Raises:
        CheckpointError: The file cannot be had or is not what it should be.
    """
    path = cache_path(url)
    if path.is_file():
        return str(path)
    mirror = os.environ.get(MIRROR, '').rstrip('/')
    addresses = [f'{mirror}{urllib.parse.urlsplit(url).path}', f'{mirror}/{path.name}'] if mirror else [url]
    lock = path.with_name(f'{path.name}.lock')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The processes of a distributed run ask for the same file: one fetches it, the others find it.
        with FileLock(lock):
            failure = None if path.is_file() else _try_addresses(addresses, path)
    # Older versions of filelock raise the latter where the file system has no locks.
    except (OSError, NotImplementedError) as error:
        failure = f'{url} cannot be kept in the cache, or its transfer stopped ({error})'
    if failure:
        raise CheckpointError(f'{failure}; fetch {url} where you can and put it at {path}, or name a mirror in '
                              f'{MIRROR}')
    # Safe only now: whoever waits for this lock, or makes a new one, finds the file. After a failure two processes
    # could each hold a lock, one removed and one new, and write the same partial file.
    with contextlib.suppress(OSError):
        lock.unlink()
    return str(path)


def _try_addresses(addresses, path):
    """Download a file from the first address that has it; return what went wrong, in words, if none has."""
    for address in addresses:
        try:
            _download(address, path)
            return None
        except urllib.error.HTTPError as error:
            # The next address may have it; the user sees the last failure alone.
            failure = f'{address} answers {error.code} {error.reason}'
        except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
            failure = f'{address} cannot be reached ({getattr(error, "reason", None) or error})'
    return failure


def _download(address, path):
    """Download a file into ``<name>.part``, from where it ends, check it and rename it to its name."""
    part = path.with_name(f'{path.name}.part')
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={'Range': f'bytes={start}-'} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        # The server has nothing beyond what is here: the part is complete, or of another file.
        part.unlink()
        _download(address, path)
        return
    with response:
        # A server that does not resume sends the whole file.
        start = start if response.status == 206 else 0
        length = response.headers.get('Content-Length')
        total = start + int(length) if length else None
        with open(part, 'ab' if start else 'wb') as file:
            _receive(response, file, path.name, total)
    size = part.stat().st_size
    if total is not None and size != total:
        raise CheckpointError(f'{address} broke off after {size} of {total} bytes; the same call goes on from there')
    _check(part, address, path.name)
    os.replace(part, path)


def _receive(response, file, name, total):
    """Append what a server sends to a file, and show how much came; a broken connection ends it without an error.

    Args:
        total (int | None): Bytes of the whole file, if the server tells.
    """
    size = file.tell()
    bar = Bar(total, f'of {name} fetched', size=True, done=size) if total else None
    line = None if bar else Line(sys.stderr)
    try:
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                size += len(chunk)
                if bar:
                    bar.add(len(chunk))
                else:
                    line.show(f'{decimal(size)} of {name} fetched')
    finally:
        # A bar that is complete has ended by itself.
        if size != total:
            (bar or line).end(f'{decimal(size)} of {name} fetched')


def _check(part, address, name):
    """Remove a file that is no whole checkpoint, or not the one that its name's checksum promises, and raise."""
    try:
        # A pickle that asks for too much is sound: reading it later says what it wants.
        with contextlib.suppress(Refused):
            read(part)
        expected = _CHECKSUM.search(name)
        if expected:
            found = sha256(part)
            if not found.startswith(expected[1]):
                raise CheckpointError(f'its SHA-256 is {found}, its name promises {expected[1]}...')
    except CheckpointError as error:
        part.unlink()
        raise CheckpointError(f'what came from {address} was thrown away: {error}') from error
