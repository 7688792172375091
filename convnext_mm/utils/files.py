"""Outputs that appear under their names when they are complete, and are known to have a place before work begins."""
import contextlib
import os
import tempfile
from pathlib import Path

from convnext_mm.utils.errors import UserError


@contextlib.contextmanager
def replacing(path):
    """A temporary name in the folder of ``path`` (made if need be), renamed to it after the block, or removed.

    Raises:
        UserError: It cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror or error}') from error
    finally:
        # A folder that could not be made holds nothing either.
        with contextlib.suppress(OSError):
            temporary.unlink()


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


def write_whole(path, *parts):
    """Write bytes so that the file is never seen half-written, not even after a power cut: to the side, then moved."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
    try:
        with open(partial, 'wb') as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def check_work_dir(work_dir):
    """Make the folder, and raise a ``UserError`` where nothing can be written into the work dir."""
    try:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        raise UserError(f'work dir {str(work_dir)!r} cannot be written to: {error.strerror}; choose another with '
                        '--work-dir, or make room') from error
