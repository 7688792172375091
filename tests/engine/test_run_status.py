"""The file that tells how a run ended."""
import errno

import pytest

from convnext_mm.engine import run_status
from convnext_mm.engine.run_status import begin_status, read_status, update_status
from convnext_mm.utils import files


def test_a_run_that_begins_keeps_the_last_validation_alone(tmp_path):
    begin_status(tmp_path)
    update_status(tmp_path, validated=8, state='failed', exit_code=1)
    begin_status(tmp_path)
    status = read_status(tmp_path)
    assert status['state'] == 'running' and status['validated'] == 8 and 'exit_code' not in status


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_status_that_cannot_be_written_takes_no_run_along(tmp_path, monkeypatch, number):
    """Nor hides why a run ended: the disk that is full for a checkpoint is full for it, too."""
    def fail(*args):
        raise OSError(number, 'no')
    begin_status(tmp_path)
    monkeypatch.setattr(files.os, 'replace', fail)
    told = []
    monkeypatch.setattr(run_status, 'print_log', lambda line, **kwargs: told.append(line))
    update_status(tmp_path, state='failed')
    assert read_status(tmp_path)['state'] == 'running' and 'status.json' in told[0]
