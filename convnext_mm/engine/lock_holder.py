"""Tell one training process from another: on this machine, on another one, and after its scheduler started it again."""
import json
import os
import platform
import uuid
from pathlib import Path
from typing import NamedTuple

#: Scheduler -> variable with the job's number, and those that tell apart the job's processes that run side by side.
_SCHEDULERS = {
    'SLURM': ('SLURM_JOB_ID', ('SLURM_STEP_ID', 'SLURM_PROCID')),
    'PBS': ('PBS_JOBID', ('PBS_TASKNUM',)),
    'LSF': ('LSB_JOBID', ('LSB_JOBINDEX', 'LSF_PM_TASKID')),
    'OAR': ('OAR_JOB_ID', ()),
}


class Holder(NamedTuple):
    """What a lock file says about the process that holds it; a file that cannot be parsed gives the defaults."""

    host: str = 'unknown'
    #: Boot and PID namespace, within which process numbers mean the same; empty where there is no /proc.
    machine: str = ''
    pid: int = 0
    #: Start of the process in ticks since the boot: a process that was given a dead one's number has another.
    start: str = ''
    #: Such as 'SLURM job 1234'; empty without a scheduler.
    job: str = ''
    #: The process's place in the job.
    task: str = ''
    #: How often the scheduler started the job again.
    restart: int = 0
    #: Makes each lock unlike any other.
    token: str = ''

    def __str__(self) -> str:
        if not self.pid:
            return 'an unknown process'
        return f'process {self.pid} on host {self.host}' + (f' ({self.job})' if self.job else '')

    def encode(self) -> bytes:
        """Return the content of a lock file."""
        return json.dumps(self._asdict(), indent=2).encode() + b'\n'

    def is_here(self) -> bool:
        """Return whether the process is, or was, one of those that this process can see."""
        return bool(self.machine) and (self.host, self.machine) == (platform.node(), _machine())

    def is_alive(self) -> bool:
        """Return whether a process that is here still runs."""
        start = _start(self.pid)
        if start:
            return start == self.start
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            # It runs: /proc may hide the processes of other users.
            return True
        except OSError:
            pass
        return False

    def is_earlier_self(self, other: 'Holder') -> bool:
        """Return whether ``other`` is this process as the scheduler starts it again.

        A scheduler starts a job again only after it has ended. So the job's number must be the same; and as one job can
        have several trainings, either the number of starts is greater, or the place in the job is the same.
        """
        return bool(self.job) and self.job == other.job and (
            other.restart > self.restart or (other.restart == self.restart and other.task == self.task))


def parse_holder(content: bytes) -> Holder:
    """Return what a lock file says."""
    try:
        holder = Holder(**json.loads(content))
        return holder._replace(pid=int(holder.pid), restart=int(holder.restart))
    except (ValueError, TypeError):
        return Holder()


def this_process() -> Holder:
    """Return the holder that this process is."""
    pid, environment = os.getpid(), os.environ
    holder = Holder(host=platform.node(), machine=_machine(), pid=pid, start=_start(pid), token=uuid.uuid4().hex)
    for name, (number, places) in _SCHEDULERS.items():
        if environment.get(number):
            restarts = environment.get('SLURM_RESTART_COUNT', '')
            return holder._replace(job=f'{name} job {environment[number]}',
                                   task='.'.join(environment.get(place, '') for place in places),
                                   restart=int(restarts) if restarts.isdecimal() else 0)
    return holder


def _machine():
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
        return f'{boot} {os.readlink("/proc/self/ns/pid")}'
    except OSError:
        # Another system than Linux: there the heartbeat alone tells whether a process lives.
        return ''


def _start(pid):
    """Return when a process was started, or an empty string where none with this number runs."""
    try:
        # The name of the program comes before, in brackets, and may hold anything.
        state, *fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except (OSError, ValueError):
        return ''
    # A zombie has ended, though nobody has asked for its exit code.
    return '' if state in 'ZX' else fields[18]
