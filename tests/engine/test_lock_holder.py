"""A training process is told from every other one, but not from itself after its scheduler started it again."""
import os
import subprocess

import pytest

from convnext_mm.engine import lock_holder
from convnext_mm.engine.lock_holder import Holder, parse_holder, this_process


@pytest.fixture(autouse=True)
def _no_scheduler(monkeypatch):
    for number, places in lock_holder._SCHEDULERS.values():
        for name in (number, *places, 'SLURM_RESTART_COUNT'):
            monkeypatch.delenv(name, raising=False)


def test_a_holder_is_read_as_it_was_written():
    me = this_process()
    assert parse_holder(me.encode()) == me
    assert str(me) == f'process {os.getpid()} on host {me.host}'
    assert me.is_here() and me.is_alive()
    assert this_process().token != me.token


@pytest.mark.parametrize('content', [b'', b'\xff', b'[1]', b'3', b'{"pid": "x"}', b'{"pid": []}', b'{"other": 1}'])
def test_another_content_is_an_unknown_process(content):
    assert parse_holder(content) == Holder()
    assert not Holder().is_here() and str(Holder()) == 'an unknown process'


@pytest.mark.parametrize('change', [dict(host='other'), dict(machine='other boot'), dict(machine='')])
def test_processes_of_other_machines_are_not_here(change):
    assert not this_process()._replace(**change).is_here()


def test_who_is_alive(monkeypatch):
    me = this_process()
    ended = subprocess.Popen(['true'])
    while lock_holder._start(ended.pid):
        pass
    # A zombie until it is waited for.
    zombie = me._replace(pid=ended.pid)
    assert not zombie.is_alive()
    ended.wait()
    assert not zombie.is_alive()
    assert not me._replace(start='1').is_alive(), "the number is another process's now"
    assert not me._replace(start='', pid=ended.pid).is_alive()

    def refuse(pid, number):
        raise PermissionError
    monkeypatch.setattr(os, 'kill', refuse)
    assert zombie.is_alive(), 'a process of another user, hidden'


#: Environment of the first start, what changes at the second, whether that is the same process again.
JOBS = {
    'no scheduler': ({}, {}, False),
    'the same job': ({'SLURM_JOB_ID': '7'}, {}, True),
    'started again by SLURM': ({'SLURM_JOB_ID': '7', 'SLURM_STEP_ID': '0'}, {'SLURM_RESTART_COUNT': '1'}, True),
    'in another step': ({'SLURM_JOB_ID': '7', 'SLURM_STEP_ID': '0'},
                        {'SLURM_RESTART_COUNT': '1', 'SLURM_STEP_ID': '1'}, True),
    'two steps of one job': ({'SLURM_JOB_ID': '7', 'SLURM_STEP_ID': '0'}, {'SLURM_STEP_ID': '1'}, False),
    'two tasks of one step': ({'SLURM_JOB_ID': '7', 'SLURM_PROCID': '0'}, {'SLURM_PROCID': '1'}, False),
    'an earlier start': ({'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': '2'}, {'SLURM_RESTART_COUNT': '1'}, False),
    'another job': ({'SLURM_JOB_ID': '7'}, {'SLURM_JOB_ID': '8'}, False),
    'another scheduler': ({'PBS_JOBID': '7'}, {'PBS_JOBID': '', 'LSB_JOBID': '7'}, False),
    'PBS': ({'PBS_JOBID': '7.server'}, {}, True),
    'LSF': ({'LSB_JOBID': '7', 'LSB_JOBINDEX': '3'}, {}, True),
    'another of an array': ({'LSB_JOBID': '7', 'LSB_JOBINDEX': '3'}, {'LSB_JOBINDEX': '4'}, False),
}


@pytest.mark.parametrize('case', JOBS)
def test_a_job_that_was_started_again_is_known(case, monkeypatch):
    environment, change, same = JOBS[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    first = this_process()
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    assert first.is_earlier_self(this_process()) == same


def test_the_job_is_named(monkeypatch):
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    assert str(this_process()).endswith(' (SLURM job 7)')
