"""One training at a time uses a work dir, and whoever has ended leaves it to the next."""
import contextlib
import multiprocessing
import os
import signal
import time

import pytest
from mmengine.hooks import Hook

from convnext_mm.apis import cli, train
from convnext_mm.engine import sole_training as sole_training_module
from convnext_mm.engine import work_dir_lock
from convnext_mm.engine.hooks.interruption import interruptible
from convnext_mm.engine.lock_holder import this_process
from convnext_mm.engine.run_status import begin_status, read_status
from convnext_mm.engine.sole_training import sole_training
from convnext_mm.engine.work_dir_lock import NAME, WorkDirLock, WorkDirLost
from convnext_mm.utils.errors import RunInterrupted, UserError
from tests.helpers.paths import ROOT
from tests.helpers.toy import build_runner

FORK = multiprocessing.get_context('fork')
#: Seconds that count as long here.
STALE = 1.


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(WorkDirLock.__init__, '__defaults__', (.05, STALE))
    for name in ('SLURM_JOB_ID', 'PBS_JOBID', 'LSB_JOBID', 'OAR_JOB_ID', 'RANK'):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(work_dir_lock, 'print_log', lambda line, **kwargs: lines.append(line))
    return lines


@contextlib.contextmanager
def process(function, *args):
    """Run a function in a fork; yield it when it has called its first argument; kill it at the end."""
    ready, tell = FORK.Pipe(duplex=False)
    child = FORK.Process(target=function, args=(tell.send, *args))
    child.start()
    try:
        assert ready.poll(20)
        yield child, ready.recv()
    finally:
        child.kill()
        child.join()


def hold(tell, folder, wait=60):
    with sole_training(folder):
        tell(os.getpid())
        time.sleep(wait)


def take(folder):
    """Take and release the lock, and return how long that took."""
    begin = time.monotonic()
    with sole_training(folder):
        assert (folder / NAME).exists()
    assert not (folder / NAME).exists()
    return time.monotonic() - begin


def write_lock(folder, age=0., **fields):
    """Write the lock of another process, as of a dead one of this host."""
    holder = this_process()._replace(token='other', **fields)
    file = folder / NAME
    file.write_bytes(holder.encode())
    then = file.stat().st_mtime - age
    os.utime(file, (then, then))
    return holder


def test_the_second_is_refused_in_one_line(tmp_path):
    with process(hold, tmp_path, .5) as (child, pid):
        with pytest.raises(UserError) as raised, sole_training(tmp_path):
            pass
        assert raised.value.exit_code == 2
        message = str(raised.value)
        assert all(part in message for part in (str(tmp_path), f'process {pid} on host {os.uname().nodename}',
                                                '--work-dir')) and '\n' not in message
        child.join()
        # It was not kept from releasing its lock.
        assert not list(tmp_path.iterdir())
    take(tmp_path)


def test_the_command_is_refused_before_it_writes_anything(tmp_path, capsys):
    with process(hold, tmp_path) as (_, pid):
        assert cli.main('train', [str(ROOT / 'configs/demo/upernet.py'), '--work-dir', str(tmp_path)]) == 2
        assert f'process {pid} on host' in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == [NAME]


def with_a_worker(tell, folder):
    with sole_training(folder):
        worker = FORK.Process(target=time.sleep, args=(60,))
        worker.start()
        tell(worker.pid)
        time.sleep(60)


def test_a_killed_training_is_followed_at_once_though_its_worker_lives(tmp_path, said):
    with process(with_a_worker, tmp_path) as (child, worker):
        try:
            child.kill()
            child.join()
            beat = (tmp_path / NAME).stat().st_mtime_ns
            time.sleep(.2)
            assert (tmp_path / NAME).stat().st_mtime_ns == beat, 'the worker renews the heartbeat'
            os.kill(worker, 0)
            take(tmp_path)
            assert len(said) == 1 and f'from process {child.pid} on host' in said[0]
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_number_that_another_process_has_now(tmp_path, said):
    write_lock(tmp_path, start='1')
    take(tmp_path)
    assert len(said) == 1 and 'Taking over' in said[0]


@pytest.mark.parametrize(('age', 'least'), [
    (0, STALE * .8), (STALE / 2, STALE * .3), (2 * STALE, 0), (-3600, STALE * .8)])
def test_another_host_is_given_time(tmp_path, said, monkeypatch, age, least):
    # The clock of this host is an hour wrong.
    clock = time.time
    monkeypatch.setattr(time, 'time', lambda: clock() + 3600)
    write_lock(tmp_path, age, host='other')
    assert take(tmp_path) >= least
    waiting = f'locked by process {os.getpid()} on host other: waiting'
    assert bool(least) == (waiting in said[0] and 's left' in said[0])


def test_the_time_left_is_said_again(tmp_path, said, monkeypatch):
    now = [0.]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(time, 'sleep', lambda seconds: now.__setitem__(0, now[0] + seconds))
    write_lock(tmp_path, host='other')
    lock = WorkDirLock(tmp_path, beat=60, stale=60)
    lock.acquire()
    lock.release()
    assert [line.partition('life, ')[2].split(' ')[0] for line in said[:-1]] == ['60', '49', '39', '29', '19', '9']


def test_another_host_that_gives_a_sign_of_life_refuses(tmp_path, said, monkeypatch):
    monkeypatch.setattr(WorkDirLock.__init__, '__defaults__', (.05, 60.))
    other = WorkDirLock(tmp_path)
    other._content = other._me._replace(host='other').encode()
    other.acquire()
    with pytest.raises(UserError, match='on host other'), sole_training(tmp_path):
        pass
    assert len(said) == 1 and 'waiting' in said[0]
    other.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('content', [b'', b'rubbish'])
def test_a_lock_that_says_nothing_is_given_time(tmp_path, said, content):
    (tmp_path / NAME).write_bytes(content)
    assert take(tmp_path) > STALE * .8


def test_a_lock_that_goes_while_another_waits(tmp_path, monkeypatch):
    write_lock(tmp_path, host='other')
    lines = []

    def say(line, **kwargs):
        lines.append(line)
        (tmp_path / NAME).unlink()
    monkeypatch.setattr(work_dir_lock, 'print_log', say)
    take(tmp_path)
    assert len(lines) == 1 and 'waiting' in lines[0]


def test_a_job_takes_over_its_own(tmp_path, said, monkeypatch):
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    write_lock(tmp_path, host='other')
    take(tmp_path)
    assert len(said) == 1 and 'Taking over' in said[0]
    # But not from itself: two trainings of one job.
    with process(hold, tmp_path), pytest.raises(UserError, match='SLURM job 7'), sole_training(tmp_path):
        pass


def end_by(tell, folder, how):
    with contextlib.suppress(ValueError, RunInterrupted, KeyboardInterrupt), sole_training(folder), \
            interruptible(str(folder)):
        tell(None)
        if how == 'error':
            raise ValueError
        if how == 'exit':
            raise SystemExit(3)
        time.sleep(20)


@pytest.mark.parametrize('how', ['error', 'exit', signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_it_is_released_whatever_the_end(tmp_path, how):
    with process(end_by, tmp_path, how) as (child, _):
        if isinstance(how, signal.Signals):
            os.kill(child.pid, how)
        child.join(20)
        assert child.exitcode == (3 if how == 'exit' else 0)
    assert not (tmp_path / NAME).exists()


def test_a_fork_that_leaves_the_block_releases_nothing(tmp_path, monkeypatch):
    # No heartbeat, which would write a missing lock again.
    monkeypatch.setattr(WorkDirLock.__init__, '__defaults__', (60., 60.))
    with sole_training(tmp_path) as (hook,):
        before = (tmp_path / NAME).read_bytes()
        child = FORK.Process(target=hook._lock.release)
        child.start()
        child.join()
        assert child.exitcode == 0 and (tmp_path / NAME).read_bytes() == before
        hook._lock.check()


def test_the_heartbeat_goes_on_without_the_training(tmp_path):
    with sole_training(tmp_path):
        before = (tmp_path / NAME).stat().st_mtime_ns
        time.sleep(.3)
        assert (tmp_path / NAME).stat().st_mtime_ns > before


@pytest.mark.parametrize('late', [False, True])
def test_a_run_that_lost_its_lock_stops_without_another_checkpoint(tmp_path, late):
    class TakenOver(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == (6 if late else 2):
                write_lock(tmp_path, host='other')
                # Late: the checkpoint of this iteration is due before the next heartbeat.
                time.sleep(0 if late else .3)

    def run():
        with sole_training(tmp_path) as hooks:
            runner = build_runner(tmp_path, dict(max_iters=12), [TakenOver()], by_epoch=False)
            for hook in hooks:
                runner.register_hook(hook)
            runner.train()

    with pytest.raises(WorkDirLost, match='taken over by process .* on host other') as raised:
        run()
    assert raised.value.exit_code == 1
    # The other's lock stays.
    assert b'"other"' in (tmp_path / NAME).read_bytes()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_3.pth'] * late


def test_the_status_is_the_new_owners(tmp_path):
    class Lost:
        def train(self):
            begin_status(tmp_path)
            raise WorkDirLost('gone')
    with pytest.raises(WorkDirLost):
        train._train(Lost(), str(tmp_path))
    assert read_status(tmp_path)['state'] == 'running'


def test_a_lock_that_was_removed(tmp_path):
    lock = WorkDirLock(tmp_path, beat=60, stale=60)
    lock.acquire()
    (tmp_path / NAME).unlink()
    lock.check()
    assert (tmp_path / NAME).exists(), 'nobody could have taken it over'
    (tmp_path / NAME).unlink()
    # As after a long sleep of the machine: another training may have come and gone.
    lock._fresh -= 61
    with pytest.raises(WorkDirLost, match='an unknown process'):
        lock.check()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_faster_one_is_put_back(tmp_path, monkeypatch):
    dead = write_lock(tmp_path, start='1').encode()
    lock = WorkDirLock(tmp_path)
    with sole_training(tmp_path / 'x'):
        faster = (tmp_path / 'x' / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(faster)
    # Between reading and renaming.
    monkeypatch.setattr(lock, '_read', lambda: (dead, 0.))
    lock._take_away(dead)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(NAME, faster)]


def compete(tell, folder, go, result):
    tell(None)
    go.wait()
    try:
        with sole_training(folder) as (hook,):
            time.sleep(.3)
            hook._lock.check()
            result.put('had it')
            # The slowest has tried by now.
            time.sleep(.5)
    except (UserError, WorkDirLost) as error:
        result.put(type(error).__name__)


@pytest.mark.parametrize('attempt', range(5))
def test_one_of_many_gets_the_lock_of_a_dead_one(tmp_path, attempt):
    go, result, count = FORK.Event(), FORK.Queue(), 6
    write_lock(tmp_path, start='1')
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(process(compete, tmp_path, go, result))
        go.set()
        assert [result.get(timeout=20) for _ in range(count)].count('had it') == 1


#: Launcher, environment, whether the processes are connected (and then: as which rank) -> whether it has the lock.
RANKS = [('none', {'RANK': '1'}, None, True), ('pytorch', {'RANK': '0'}, None, True),
         ('pytorch', {'RANK': '1'}, None, False), ('slurm', {'SLURM_PROCID': '3'}, None, False),
         ('mpi', {'OMPI_COMM_WORLD_RANK': '1'}, None, False), ('pytorch', {'RANK': '1'}, 0, True),
         ('none', {}, 1, False)]


@pytest.mark.parametrize(('launcher', 'environment', 'rank', 'has_it'), RANKS)
def test_the_main_process_alone_has_it(tmp_path, monkeypatch, launcher, environment, rank, has_it):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sole_training_module, 'is_distributed', lambda: rank is not None)
    monkeypatch.setattr(sole_training_module, 'is_main_process', lambda: rank == 0)
    with sole_training(tmp_path, launcher) as hooks:
        assert bool(hooks) == (tmp_path / NAME).exists() == has_it
        if not has_it:
            # Nor is it refused where the main one has it.
            with sole_training(tmp_path), sole_training(tmp_path, launcher):
                pass


def test_a_folder_into_which_nothing_was_written_goes_again(tmp_path):
    def fail(written):
        with sole_training(tmp_path / 'a' / 'b'):
            if written:
                (tmp_path / 'a' / 'b' / 'log').touch()
            raise ValueError('no')

    for written in (False, True):
        with pytest.raises(ValueError, match='no'):
            fail(written)
        assert (tmp_path / 'a').exists() == written
    (tmp_path / 'empty').mkdir()
    with sole_training(tmp_path / 'empty'):
        pass
    assert (tmp_path / 'empty').exists()


def test_a_folder_that_cannot_be_locked(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(5, 'Input/output error')
    monkeypatch.setattr(WorkDirLock, '_create', fail)
    with pytest.raises(UserError, match=r'training\.lock.* cannot be read or written: Input/output error'), \
            sole_training(tmp_path):
        pass
