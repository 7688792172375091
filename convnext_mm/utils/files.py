"""Write files and folders whole or not at all, and check beforehand that they can be written."""
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
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
    # Keep the ending: libraries choose the format by it.
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.partial{path.suffix}')
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
    """Rename the folder ``new`` to ``path``, and remove the folder that was there."""
    if os.path.exists(path):
        shutil.rmtree(path)
    os.rename(new, path)


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


def check_place(argument: str, path: str | Path) -> None:
    """Make sure that ``path`` can be written, without writing anything.

    Args:
        argument (str): Names the argument in the message, such as ``--out``.
        path (str | Path): A file or folder to be written later.

    Raises:
        UserError: A file stands where a folder is needed, or there is no permission.
    """
    name, path = str(path), Path(path).absolute()
    folder = path
    while not os.path.lexists(folder):
        folder = folder.parent
    # A file that is there will be replaced by renaming, which needs permission for its folder.
    folder = folder.parent if folder == path and not path.is_dir() else folder
    if not folder.is_dir():
        raise UserError(f'{argument} {name!r} cannot be written: {folder} is not a folder')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f'{argument} {name!r} cannot be written: no permission to write in {folder}')


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
