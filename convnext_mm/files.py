"""Outputs that appear under their names when they are complete, and are known to have a place before work begins."""
import contextlib
import os
from pathlib import Path

from .errors import UserError


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
        temporary.unlink(missing_ok=True)


def check_place(argument, path):
    """Make sure that ``path`` can be made, without making anything.

    Args:
        argument (str): Names the argument in the message, such as ``--out``.
        path (str | Path): Of a file or folder to be.

    Raises:
        UserError: A file stands where a folder is needed, or there is no permission.
    """
    path = Path(path).absolute()
    folder = path
    while not os.path.lexists(folder):
        folder = folder.parent
    # What is there already is replaced by renaming, which its folder must allow.
    folder = folder.parent if folder == path and not path.is_dir() else folder
    if not folder.is_dir():
        raise UserError(f'{argument} {str(path)!r} cannot be written: {folder} is not a folder')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f'{argument} {str(path)!r} cannot be written: no permission to write in {folder}')
