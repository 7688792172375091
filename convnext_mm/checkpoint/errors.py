"""What can be wrong with a checkpoint."""
import contextlib

from convnext_mm.utils.errors import UserError


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read, or that does not fit what it should be loaded into."""


class Refused(CheckpointError):
    """A pickle, whole or not, asks for more than ``ALLOWED``."""


@contextlib.contextmanager
def naming_file(file):
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f'{file or "the checkpoint"}: {error}') from error
