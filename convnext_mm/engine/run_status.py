"""What is known of a run from outside: a file in its work dir that says how far it is and how it ended."""
import json
import logging
import os
import time
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.logging import print_log

from convnext_mm.utils.files import WriteError, whole_file

NAME = 'status.json'


def read_status(work_dir):
    """The content of the file, empty where there is none.

    Keys: ``state`` (``running``, ``finished``, ``interrupted``, ``failed``), ``time`` of the last change, ``pid``;
    ``validated``, the iteration of the last validation; where the run ended early ``exit_code`` and ``reason``, and
    after an interruption ``checkpoint`` and ``resume``, the command that goes on.
    """
    try:
        return json.loads((Path(work_dir) / NAME).read_text())
    except (OSError, ValueError):
        return {}


def begin_status(work_dir):
    """Note that a run is starting; of an earlier one, only ``validated`` is kept."""
    validated = read_status(work_dir).get('validated')
    _write(work_dir, {'state': 'running', 'pid': os.getpid(), 'validated': validated})


def update_status(work_dir, **content):
    """Set some of the keys."""
    _write(work_dir, {**read_status(work_dir), **content})


def _write(work_dir, content):
    # One file for all processes: the first one's.
    if is_main_process():
        content['time'] = time.strftime('%Y-%m-%dT%H:%M:%S%z')
        try:
            with whole_file(Path(work_dir) / NAME, durable=True) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + '\n')
        except WriteError as error:
            # No reason to end a run, and often told while another one ends it.
            print_log(str(error), logger='current', level=logging.WARNING)
