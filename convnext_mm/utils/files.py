"""Write files and folders whole or not at all, check beforehand that they can be written, and tell files apart."""
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from convnext_mm.utils.errors import UserError


class WriteError(UserError, OSError):
    """A file or folder cannot be written; ``errno`` says why."""


@contextlib.contextmanager
def _written(path):
    """Turn an error of the system into a ``WriteError`` that names ``path``."""
    try:
        yield
    except OSError as error:
        wrong = WriteError(f'{path} cannot be written: {error.strerror or error}')
        wrong.errno = error.errno
        raise wrong from error


def _sync(path):
    """Wait until the disk has a file, or the names in a folder."""
    if not hasattr(os, 'O_DIRECTORY'):
        # Windows opens no folder, and synchronises no file that is open for reading.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_file(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which is renamed to ``path`` after the block, or removed on an error.

    Missing folders are made. Each process has a temporary name of its own, so several may write one file.

    Args:
        path (str | Path): The file to write.
        durable (bool): Wait until the disk has the file, so that a power cut leaves the old or the new one whole.
            Defaults to False.

    Raises:
        WriteError: It cannot be written; whatever stood there is untouched.
    """
    path = Path(path)
    # Keep the ending: libraries choose the format by it. A name of full length leaves no room for more.
    temporary = path.with_name(f'.{path.stem[:40]}.{os.getpid()}.partial{path.suffix}')
    try:
        with _written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
            if durable:
                _sync(path.parent)
    finally:
        # There is nothing to remove after the renaming, or where the folder could not be made.
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, which replaces ``path`` after the block, or is removed on an error.

    Raises:
        WriteError: It cannot be written; whatever stood there is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        with _written(path):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: str | Path, path: str | Path) -> None:
    """Rename the folder ``new`` to ``path``, and then remove the folder that was there.

    The old one is renamed aside, and back if the new one cannot take its place.
    """
    path = Path(os.path.abspath(path))
    old, is_there = path.with_name(f'.{path.name}.{os.getpid()}.old'), os.path.lexists(path)
    if is_there:
        shutil.rmtree(old, ignore_errors=True)
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if is_there:
            os.rename(old, path)
        raise
    if old.is_symlink():
        old.unlink()
    elif is_there:
        shutil.rmtree(old)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def png_name(image_path: str | Path, folder: str | Path) -> str:
    """Return the name of an image's PNG: its path below the images' folder, so that equal names do not meet.

    Args:
        image_path (str | Path): The image.
        folder (str | Path): An image outside it, or of no known folder (empty), has its file's name alone.

    Returns:
        str: With slashes and the ending ``.png``.
    """
    relative = os.path.relpath(image_path, folder) if folder else os.path.basename(image_path)
    if relative.startswith('..'):
        relative = os.path.basename(image_path)
    return Path(relative).with_suffix('.png').as_posix()


def png_names(image_paths: Iterable[str | Path], folder: str | Path) -> dict[str, str]:
    """Return ``{path of an image: its png_name}``, a number behind those that would meet.

    Args:
        image_paths (Iterable[str | Path]): The images.
        folder (str | Path): As in :func:`png_name`.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    for path in dict.fromkeys(map(str, image_paths)):
        name = png_name(path, folder)
        stem = name.removesuffix('.png')
        while name in taken:
            numbers[stem] += 1
            name = f'{stem}_{numbers[stem] + 1}.png'
        taken.add(name)
        names[path] = name
    return names


def check_place(argument: str, path: str | Path, is_folder: bool = False) -> None:
    """Make sure that a file or folder can be written, by a file without a name that is gone at once.

    Args:
        argument (str): Names the argument in the message, such as ``--out``.
        path (str | Path): What is to be written later. A regular file will be replaced, a folder added to.
        is_folder (bool): Whether it is a folder. Defaults to False: it is a file.

    Raises:
        UserError: Something else stands there, a file stands where a folder is needed, or nothing can be written.
    """
    name, path = str(path), Path(path).absolute()
    fault = _wrong_kind(path, is_folder)
    folder = path if is_folder else path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not fault and not folder.is_dir():
        fault = f'{folder} is not a folder'
    if not fault:
        try:
            # Ask the file system itself: root has every permission, also where no file can be made.
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            fault = f'no file can be made in {folder} ({error.strerror})'
    if fault:
        raise UserError(f'{argument} {name!r} cannot be written: {fault}; give another '
                        f'{"folder" if is_folder else "file"}')


def _wrong_kind(path, is_folder):
    """Return in words what stands at ``path`` that is neither missing nor of the right kind; None if nothing does."""
    if is_folder or not os.path.exists(path):
        return None
    if path.is_dir():
        return 'it is a folder'
    # Renaming a file over a device takes the device away from everybody.
    return None if path.is_file() else 'it is no regular file'


def check_work_dir(work_dir: str | Path) -> None:
    """Make the folder, and make sure that files can be written into it.

    Raises:
        UserError: They cannot.
    """
    try:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        raise UserError(f'work dir {str(work_dir)!r} cannot be written to: {error.strerror}; choose another with '
                        '--work-dir, or make room') from error
