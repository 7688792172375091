"""Published weights into a cache folder: resumed when interrupted, checked, from a mirror if one is named.

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
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import torch.hub

from convnext_mm.checkpoint.errors import CheckpointError, Refused
from convnext_mm.checkpoint.files import read
from convnext_mm.published.weights import weights

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MIRROR = 'CONVNEXT_MM_MIRROR'
_HTTP = ('http://', 'https://')
_CHUNK = 1 << 20
#: Checksums are published in file names, as torchvision and OpenMMLab do: the start of the SHA-256.
_CHECKSUM = re.compile(r'-([0-9a-f]{8,64})\.(?:pth|pt|bin|safetensors)$')


def locate(source):
    """The path of a checkpoint, fetched into the cache first where need be.

    Args:
        source (str | Path): See ``resolve``.

    Raises:
        CheckpointError: It is none of these, or cannot be fetched.
    """
    path = resolve(source)
    return fetch(path) if path.startswith(_HTTP) else path


def resolve(source):
    """The path or http(s) address that a checkpoint is meant by; nothing is fetched.

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


def cache_folder():
    """Where fetched files are kept."""
    return Path(torch.hub.get_dir(), 'checkpoints')


def cache_path(url):
    """Where a fetched file is kept: by its name alone if it is published or tells its checksum, as torch keeps it.

    Any other name, such as ``model.safetensors``, may be that of many files, so a folder for the address keeps it.
    """
    name = Path(urllib.parse.urlsplit(url).path).name
    if name in ('', '..'):
        raise CheckpointError(f'address {url!r} names no file; expected one that ends in a file name')
    if _CHECKSUM.search(name) or any(url == row.url for row in weights().values()):
        return cache_folder() / name
    return cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / name


def fetch(url):
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
    by_hand = f'fetch {url} where you can and put it at {path}, or name a mirror in {MIRROR}'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The processes of a distributed run ask for the same file: one fetches it, the others find it.
        with _lock(_part(path)):
            if path.is_file():
                return str(path)
            for address in addresses:
                try:
                    return _download(address, path)
                except urllib.error.HTTPError as error:
                    # The next address may have it; only the last failure is the user's to see.
                    failure = f'{address} answers {error.code} {error.reason}'
                except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
                    failure = f'{address} cannot be reached ({getattr(error, "reason", None) or error})'
    except OSError as error:
        failure = f'{url} cannot be kept in the cache, or its transfer stopped ({error})'
    raise CheckpointError(f'{failure}; {by_hand}')


def _part(path):
    return path.with_name(f'{path.name}.part')


@contextlib.contextmanager
def _lock(path):
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(path, 'ab'))
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock may have removed or renamed the file that was waited for.
            if path.is_file() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        try:
            yield
        finally:
            if path.is_file() and not path.stat().st_size:
                path.unlink()


def _download(address, path):
    part = _part(path)
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={'Range': f'bytes={start}-'} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        # Nothing lies behind what we have: it is complete, or of another file. Emptied, as it is also the lock.
        os.truncate(part, 0)
        return _download(address, path)
    with response:
        # A server that does not resume sends the whole file.
        start = start if response.status == 206 else 0
        length = response.headers.get('Content-Length')
        total = start + int(length) if length else None
        with open(part, 'ab' if start else 'wb') as file:
            progress = _Progress(path.name, total)
            # A connection that breaks is told by the size below.
            with contextlib.suppress(http.client.HTTPException, ConnectionError):
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    progress.show(file.tell())
    size = part.stat().st_size
    if total is not None and size != total:
        raise CheckpointError(f'{address} broke off after {size} of {total} bytes; the same call goes on from there')
    _check(part, address, path.name)
    os.replace(part, path)
    return str(path)


def _check(part, address, name):
    """Remove what is no whole checkpoint, or not the one that its name's checksum promises, and raise."""
    try:
        # What a pickle asks for is not the transfer's concern.
        with contextlib.suppress(Refused):
            read(part)
        expected = _CHECKSUM.search(name)
        if expected:
            with open(part, 'rb') as file:
                digest = hashlib.sha256()
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            if not digest.hexdigest().startswith(expected[1]):
                raise CheckpointError(f'its SHA-256 is {digest.hexdigest()}, its name promises {expected[1]}...')
    except CheckpointError as error:
        part.unlink()
        raise CheckpointError(f'what came from {address} was thrown away: {error}') from error


class _Progress:
    """A line on stderr: kept up to date on a terminal, repeated every ten seconds in a log."""

    def __init__(self, name, total):
        self.name, self.total = name, total
        self.terminal = sys.stderr.isatty()
        self.due = 0.

    def show(self, size):
        complete = size == self.total
        if time.monotonic() < self.due and not complete:
            return
        self.due = time.monotonic() + (.2 if self.terminal else 10)
        text = f'fetching {self.name}: {size / 1e6:.1f} MB' + (f' of {self.total / 1e6:.1f} MB' if self.total else '')
        print(text, file=sys.stderr, flush=True, end='\r' if self.terminal and not complete else '\n')
