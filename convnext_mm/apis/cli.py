"""Run a command: a user's mistake is one line on stderr and exit code 2."""
import contextlib
import os
import sys
from importlib import import_module

from convnext_mm.apis.arguments import PROGRAM, make_overview, make_parser
from convnext_mm.utils.config_files import find_config
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.needed import check_needed


def command_line(argv=None):
    """Run the command that stands first in ``convnext-mm COMMAND ...``, and return its exit code.

    Args:
        argv (list[str], optional): Defaults to ``sys.argv[1:]``.
    """
    argv = sys.argv[1:] if argv is None else argv
    command = make_overview().parse_args(argv[:1]).command
    return main(command, argv[1:], f'{PROGRAM} {command}')


def main(command, argv=None, program=None):
    """Run a command by its name, and return its exit code.

    Args:
        command (str): A key of ``arguments.COMMANDS``; its module is imported when the arguments are known to be right.
        argv (list[str], optional): Defaults to ``sys.argv[1:]``.
        program (str, optional): What was called, for messages. Defaults to the name of the script.
    """
    def call(argv):
        args = make_parser(command, program).parse_args(argv)
        # What takes no time is looked at before torch and mm are imported, which takes seconds.
        if getattr(args, 'config', None):
            find_config(args.config)
        try:
            # Some packages greet on stdout when they are imported, where nothing but the result belongs.
            with contextlib.redirect_stdout(sys.stderr):
                # The doctor imports nothing that may be broken.
                if command != 'doctor':
                    check_needed(UserError)
                    import_module('convnext_mm.utils.notices').hide_notices()
                module = import_module(f'convnext_mm.apis.{command}')
            return module.main(args)
        except ModuleNotFoundError as error:
            if (error.name or __package__).partition('.')[0] == __package__.partition('.')[0]:
                raise
            raise UserError(f'{command} needs {error.name}, which is not installed: pip install "convnext_mm[onedl]" '
                            'or "convnext_mm[openmmlab]" brings it') from error
    return run(call, argv, program)


def run(main, argv=None, program=None):
    """Call ``main(argv)`` and return its exit code; a ``UserError``, which has one, is printed on one line.

    Args:
        main (Callable): Takes the arguments (None for ``sys.argv``); returns an exit code, or None for 0.
        argv (list[str], optional): Defaults to ``sys.argv[1:]``.
        program (str, optional): What was called, for the message. Defaults to the name of the script.
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
    print(f'{program or os.path.basename(sys.argv[0])}: error: {message}', file=sys.stderr, flush=True)
    return code
