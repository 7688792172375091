"""Errors that a user can cause: the tools print them as one line and exit with code 2."""
import traceback
from pathlib import Path


class UserError(Exception):
    """A wrong argument, config, file or data set; the message says what was given, what is taken and what to do."""

    #: The exit code of the tool that the user called.
    exit_code = 2


class ArgumentValueError(UserError, ValueError):
    """An argument of the right type with a value that is not taken."""


class ArgumentTypeError(UserError, TypeError):
    """An argument of the wrong type."""


class RunStopped(UserError):
    """A training cannot go on because of what happened in it, not of how it was set up; the tools exit with code 1."""

    exit_code = 1


class RunInterrupted(RunStopped):
    """A training was asked to stop and has saved a checkpoint; the tools exit with code 75 (``EX_TEMPFAIL``)."""

    exit_code = 75


def describe_error(error: BaseException, most: int = 300) -> str:
    """Return in one line what happened: type and text of an error, or type and place where it has no text.

    Args:
        error (BaseException): As it was caught. A ``UserError`` is described by its text alone.
        most (int): Characters of the text. Defaults to 300.
    """
    text, kind = ' '.join(str(error).split())[:most], type(error).__name__
    if text:
        return text if isinstance(error, UserError) else f'{kind}: {text}'
    frames = traceback.extract_tb(error.__traceback__)
    return f'{kind} in {frames[-1].name}, {Path(*Path(frames[-1].filename).parts[-3:])}:{frames[-1].lineno}' if frames \
        else kind
