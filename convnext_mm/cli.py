"""What all tools share: a parser and a runner under which a user's mistake is one line on stderr and exit code 2."""
import argparse
import os
import sys

from convnext_mm.utils.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose error is one line."""

    def error(self, message):
        self.exit(2, f'{self.prog}: error: {message} (--help shows the usage)\n')


def run(main, argv=None):
    """Call a tool's ``main(argv)`` and return its exit code; a ``UserError``, which has one, is printed on one line.

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
