"""Errors that a user can cause: the tools print them as one line and exit with code 2."""


class UserError(Exception):
    """A wrong argument, config, file or data set; the message says what was got, what is taken and what to do."""

    #: Of the tool that the user called.
    exit_code = 2


class ArgumentValueError(UserError, ValueError):
    """An argument of the right type with a value that is not taken."""


class ArgumentTypeError(UserError, TypeError):
    """An argument of the wrong type."""


class RunStopped(UserError):
    """A training that cannot go on, for a reason that lies in its course; the tools exit with code 1."""

    exit_code = 1


class RunInterrupted(RunStopped):
    """A training that was asked to stop and left a checkpoint; the tools exit with code 75 (``EX_TEMPFAIL``)."""

    exit_code = 75
