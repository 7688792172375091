"""Hide a notice that OneDL's toolboxes print on stdout whenever they are imported without a package nobody needs.

They give ``print_log`` no logger, so that the notice has a level but is printed all the same: no setting hides it.
"""
from mmengine import logging
from mmengine.logging import logger

_NOTICE = 'Could not import OneDL'


def _print_log(msg, *args, **kwargs):
    """Do what mmengine's ``print_log`` does, but for the notice."""
    if not str(msg).startswith(_NOTICE):
        logger.print_log(msg, *args, **kwargs)


def hide_notices() -> None:
    """Hide the notice from here on; the toolboxes look ``print_log`` up where they need it."""
    logging.print_log = _print_log
