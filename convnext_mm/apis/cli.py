"""Run a command: a user's mistake is one line on stderr and exit code 2."""
import contextlib
import os
import sys
from importlib import import_module

from convnext_mm.apis.arguments import make_parser
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.needed import needed_packages


def main(command, argv=None):
    """Run a command by its name, and return its exit code.

    Args:
        command (str): A key of ``arguments.COMMANDS``; its module is imported when the arguments are known to be right.
        argv (list[str], optional): Defaults to ``sys.argv[1:]``.
    """
    def call(argv):
        args = make_parser(command).parse_args(argv)
        # Some packages greet on stdout when they are imported, where nothing but the result belongs.
        with contextlib.redirect_stdout(sys.stderr), needed_packages():
            module = import_module(f'convnext_mm.apis.{command}')
        return module.main(args)
    return run(call, argv)


def run(main, argv=None):
    """Call ``main(argv)`` and return its exit code; a ``UserError``, which has one, is printed on one line.

    Args:
        main (Callable): Takes the arguments (None for ``sys.argv``); returns an exit code, or None for 0.
        argv (list[str], optional): Defaults to ``sys.argv[1:]``.
    """
    try:
        return main(argv) or 0
    except UserError as error:
        message, code = ' '.join(str(error).split()), error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`| head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    sys.stdout.flush()
    print(f'{os.path.basename(sys.argv[0])}: error: {message}', file=sys.stderr, flush=True)
    return code
