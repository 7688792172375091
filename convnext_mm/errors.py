"""Errors that a user can cause: the tools print them as one line and exit with code 2."""


class UserError(Exception):
    """A wrong argument, config, file or data set; the message says what was got, what is taken and what to do."""


class ArgumentValueError(UserError, ValueError):
    """An argument of the right type with a value that is not taken."""


class ArgumentTypeError(UserError, TypeError):
    """An argument of the wrong type."""
