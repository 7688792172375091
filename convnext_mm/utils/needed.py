"""The packages that everything but arguments and files needs, and how to install them."""
import contextlib
from collections.abc import Iterator

from convnext_mm.utils.errors import UserError

#: Package -> what to give to ``pip install``.
_NEEDED = {
    'torch': 'torch (2.1 or newer)',
    'mmengine': 'convnext_mm[onedl] (the OneDL distributions) or convnext_mm[openmmlab] (the classic ones)',
}


class NotInstalledError(UserError, ImportError):
    """A package is missing without which nothing can be built."""


@contextlib.contextmanager
def needed_packages() -> Iterator[None]:
    """Say what to install where an import in the block fails because torch or mmengine is missing.

    Raises:
        NotInstalledError: In place of a ``ModuleNotFoundError``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise NotInstalledError(f'convnext_mm needs {error.name}, which is not installed: '
                                f'pip install {_NEEDED[error.name]}') from error
