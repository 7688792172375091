"""Keep a file in a run's work dir that tells other programs how far the run is and how it ended."""
import json
import logging
import os
import time
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.logging import print_log

from convnext_mm.utils.files import WriteError, whole_file

NAME = 'status.json'


def read_status(work_dir) -> dict:
    """Return the content of the status file, an empty dict where there is none.

    Keys: ``state`` (``running``, ``finished``, ``interrupted`` or ``failed``), ``time`` of the last change, ``pid``,
    ``validated`` (iteration of the last validation); ``exit_code`` and ``reason`` where the run ended early, and
    ``checkpoint`` after an interruption.
    """
    try:
        return json.loads((Path(work_dir) / NAME).read_text())
    except (OSError, ValueError):
        return {}


def begin_status(work_dir) -> None:
    """Write that a run is starting; keep only ``validated`` of an earlier run."""
    validated = read_status(work_dir).get('validated')
    _write(work_dir, {'state': 'running', 'pid': os.getpid(), 'validated': validated})


def update_status(work_dir, **content) -> None:
    """Set some of the keys, and the time."""
    _write(work_dir, {**read_status(work_dir), **content})


def _write(work_dir, content):
    # All processes share the file; the main one writes it.
    if is_main_process():
        content['time'] = time.strftime('%Y-%m-%dT%H:%M:%S%z')
        try:
            with whole_file(Path(work_dir) / NAME, durable=True) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + '\n')
        except WriteError as error:
            # This must not end a run, nor hide the error that does.
            print_log(str(error), logger='current', level=logging.WARNING)
