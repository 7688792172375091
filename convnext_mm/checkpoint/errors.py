"""Errors of checkpoints."""
import contextlib

from convnext_mm.utils.errors import UserError


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read, or that does not fit what it should be loaded into."""


class Refused(CheckpointError):
    """A pickle asks for something that is not in ``safe_pickle.ALLOWED``; the file itself may be sound or damaged."""


@contextlib.contextmanager
def naming_file(file):
    """Put a file's name before the message of a ``CheckpointError`` that the block raises."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f'{file or "the checkpoint"}: {error}') from error
