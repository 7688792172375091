"""The packages that everything but arguments and files needs: which versions, and how to install them."""
import sys
from importlib import metadata, util
from typing import NamedTuple

from convnext_mm.utils.errors import UserError
from convnext_mm.utils.versions import satisfies


class Need(NamedTuple):
    """A package that is needed.

    Attributes:
        package (str): What is imported.
        versions (str): Those that work, such as ``>=2.1``; empty for all.
        distributions (tuple[str]): Those that bring it, one of which is enough.
        command (str): Installs it.
    """

    package: str
    versions: str
    distributions: tuple[str, ...]
    command: str


#: All builds of OpenCV, which lie in one folder: with several, the last that was installed is the one that is there.
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')
NEEDS = (
    Need('torch', '>=2.1', ('torch',),
         'pip install "torch>=2.1" (with another torch, an mmcv that was compiled must be compiled again)'),
    Need('mmengine', '>=0.10.3', ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
         'pip install "convnext_mm[onedl]" (the OneDL distributions) or "convnext_mm[openmmlab]" (the classic ones)'),
    # OneDL's mmengine imports it and does not require it.
    Need('cv2', '', OPENCV, 'pip install opencv-python-headless'),
)


class NotInstalledError(UserError, ImportError):
    """A package is missing, or too old, without which nothing can be built."""


def check_needed(error: type[UserError] = NotInstalledError) -> None:
    """Check that the packages of ``NEEDS`` are there, without importing them.

    Args:
        error (type[UserError]): What is raised.

    Raises:
        UserError: A package is missing or of another version; the message names both and the command.
    """
    for need in NEEDS:
        found = next(filter(None, map(find_version, need.distributions)), None)
        if is_missing(need.package):
            said = 'which is not installed'
        elif found and not satisfies(found, need.versions):
            said = f'and {found} is installed'
        else:
            continue
        raise error(f'convnext_mm needs {need.package}{need.versions}, {said}: {need.command}')


def is_missing(package: str) -> bool:
    """Return whether a package cannot be found, without importing it."""
    # A module that was replaced in `sys.modules` may have no spec.
    return sys.modules[package] is None if package in sys.modules else util.find_spec(package) is None


def find_version(distribution: str) -> str | None:
    """Return the version of a distribution, or None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
