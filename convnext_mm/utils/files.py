"""Outputs appear under their names when they are complete, and have a place before work begins."""
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from convnext_mm.utils.errors import UserError


class WriteError(UserError, OSError):
    """A file or folder cannot be written; ``errno`` says why."""


@contextlib.contextmanager
def _written(path):
    try:
        yield
    except OSError as error:
        wrong = WriteError(f'{path} cannot be written: {error.strerror or error}')
        wrong.errno = error.errno
        raise wrong from error


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_file(path, durable=False):
    """Yield a temporary path beside ``path``, which is renamed to ``path`` after the block, or removed on an error.

    Folders are made where they are missing. Each process has a temporary name of its own, so two may write one file.

    Args:
        path (str | Path): The file to be.
        durable (bool): Wait until the disk has it, so that a power cut leaves the old file or the new one.

    Raises:
        WriteError: It cannot be written; whatever stood there is untouched.
    """
    path = Path(path)
    # The ending stays: libraries choose the format by it.
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
        # A folder that could not be made holds nothing either.
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def whole_folder(path):
    """Yield a temporary folder beside ``path``, which takes the place of ``path`` after the block.

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


def replace_folder(new, path):
    """Rename the folder ``new`` to ``path``, in place of what is there."""
    if os.path.exists(path):
        shutil.rmtree(path)
    os.rename(new, path)


def check_place(argument, path):
    """Make sure that ``path`` can be made, without making anything.

    Args:
        argument (str): Names the argument in the message, such as ``--out``.
        path (str | Path): Of a file or folder to be.

    Raises:
        UserError: A file stands where a folder is needed, or there is no permission.
    """
    name, path = str(path), Path(path).absolute()
    folder = path
    while not os.path.lexists(folder):
        folder = folder.parent
    # What is there already is replaced by renaming, which its folder must allow.
    folder = folder.parent if folder == path and not path.is_dir() else folder
    if not folder.is_dir():
        raise UserError(f'{argument} {name!r} cannot be written: {folder} is not a folder')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f'{argument} {name!r} cannot be written: no permission to write in {folder}')


def check_work_dir(work_dir):
    """Make the folder, and raise a ``UserError`` where nothing can be written into it."""
    try:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        raise UserError(f'work dir {str(work_dir)!r} cannot be written to: {error.strerror}; choose another with '
                        '--work-dir, or make room') from error
