"""The lock of a work dir: a file that the main process of a training keeps fresh.

The file works on network file systems, which have no reliable ``flock``: it is created exclusively and taken away by
renaming. Its time of change is the heartbeat, which a thread of the main process renews. Threads do not survive a fork,
so the workers of data loaders never renew it.
"""
import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path

from mmengine.logging import print_log

from convnext_mm.engine.lock_holder import Holder, parse_holder, this_process
from convnext_mm.utils.errors import RunStopped, UserError

NAME = 'training.lock'
#: Seconds between two heartbeats, and the age of the last one from which on a process of another host counts as dead.
BEAT, STALE = 10.0, 60.0


class WorkDirLost(RunStopped):
    """Another training took the work dir over, which now is its own: nothing more may be written there."""


class WorkDirLock:
    """The lock of one work dir, held from ``acquire`` to ``release`` by the process that called it.

    Args:
        work_dir (str | Path): A folder that exists.
        beat (float): Seconds between two heartbeats. Defaults to 10.
        stale (float): Age of the last heartbeat, in seconds, from which on a process of another host counts as dead.
            Defaults to 60.
    """

    def __init__(self, work_dir: str | Path, beat: float = BEAT, stale: float = STALE):
        self._path, self._beat, self._stale = Path(work_dir, NAME), beat, stale
        self._me = this_process()
        self._content = self._me.encode()
        self._lost: Holder | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name=NAME, daemon=True)

    def acquire(self) -> None:
        """Take the lock; wait first where a process of another host may hold it.

        Raises:
            UserError: Another training has it, or the file cannot be read or written.
        """
        try:
            while not self._create(self._content) and not self._take_over():
                pass
        except OSError as error:
            raise UserError(f'lock {str(self._path)!r} cannot be read or written: {error.strerror or error}; choose '
                            'another work dir with --work-dir') from error
        self._fresh = time.time()
        self._thread.start()

    def check(self) -> None:
        """Make sure, from the file, that this process still has the lock.

        Raises:
            WorkDirLost: Another process took it over.
        """
        self._renew()
        self.check_last_heartbeat()

    def check_last_heartbeat(self) -> None:
        """Make sure that this process had the lock at its last heartbeat; this reads no file.

        Raises:
            WorkDirLost: Another process had taken it over.
        """
        if self._lost is not None:
            raise WorkDirLost(
                f'work dir {str(self._path.parent)!r} was taken over by {self._lost}, because this process gave no '
                f'sign of life for {self._stale:.0f} s; it stops here and writes nothing more into that folder')

    def release(self) -> None:
        """Give the lock back, if this process has it."""
        # A forked process that ends by an exception comes here, too.
        if os.getpid() != self._me.pid or self._ended.is_set():
            return
        self._ended.set()
        if self._thread.ident is not None:
            # A file system that does not answer must not keep the run from ending.
            self._thread.join(self._beat)
        with contextlib.suppress(OSError):
            self._take_away(self._content)

    def _create(self, content):
        """Write the lock file, and return whether there was none."""
        try:
            with open(self._path, 'xb') as file:
                file.write(content)
        except FileExistsError:
            return False
        return True

    def _read(self):
        """Return content and time of change of the lock file."""
        # On NFS only opening a file makes sure that its time is not one remembered from earlier.
        with open(self._path, 'rb') as file:
            return file.read(), os.fstat(file.fileno()).st_mtime

    def _take_over(self):
        """Make way for this process if the holder is dead; return whether this process holds the lock already.

        Raises:
            UserError: The holder lives.
        """
        try:
            content, beat = self._read()
        except FileNotFoundError:
            return False
        holder = parse_holder(content)
        if content == self._content:
            # A network file system may answer a creation that was sent twice with "exists".
            return True
        if holder.is_here():
            if holder.is_alive():
                raise self._refusal(holder)
        elif not holder.is_earlier_self(self._me) and not self._wait(holder, content, beat):
            return False
        print_log(f'Taking over the work dir {str(self._path.parent)!r} from {holder}, which has ended without '
                  'releasing it', logger='current')
        self._take_away(content)
        return False

    def _wait(self, holder, content, beat):
        """Wait until the heartbeat is stale, and return whether the lock is still the same.

        Raises:
            UserError: The heartbeat was renewed.
        """
        begin, said = time.monotonic(), float('inf')
        while True:
            # The clock of this host may differ from the file system's. It counts only the seconds of waiting, which end
            # also where the heartbeat lies in the future.
            left = self._stale - max(self._now() - beat, time.monotonic() - begin)
            try:
                now_content, now_beat = self._read()
            except FileNotFoundError:
                return False
            if now_content != content:
                return False
            if now_beat != beat:
                raise self._refusal(holder)
            if left <= 0:
                return True
            if said - left >= 10:
                said = left
                print_log(f'The work dir {str(self._path.parent)!r} is locked by {holder}: waiting for a sign of life, '
                          f'{left:.0f} s left until it is taken over', logger='current')
            time.sleep(min(left, self._stale / 60))

    def _now(self):
        """Return the time by the clock of the file system."""
        with tempfile.TemporaryFile(dir=self._path.parent) as file:
            file.write(b'.')
            file.flush()
            return os.fstat(file.fileno()).st_mtime

    def _refusal(self, holder):
        return UserError(f'work dir {str(self._path.parent)!r} is in use by another training, {holder}: choose another '
                         'with --work-dir, or end that one first')

    def _take_away(self, content):
        """Remove the lock file if it has this content."""
        grave = self._path.with_name(f'.{NAME}.{self._me.token}')
        try:
            if self._read()[0] != content:
                return
            # Only one of several processes succeeds in renaming it.
            os.rename(self._path, grave)
        except FileNotFoundError:
            return
        found = grave.read_bytes()
        if found != content:
            # Another process was faster, and this is its lock: put it back. If a third one has a lock by now, the
            # owner finds out at its next check.
            self._create(found)
        grave.unlink()

    def _keep_fresh(self):
        while self._lost is None and not self._ended.wait(self._beat):
            self._renew()

    def _renew(self):
        """Renew the heartbeat, or note that another process has the lock."""
        if self._ended.is_set() or os.getpid() != self._me.pid:
            return
        # An error of the file system must not end a run: the next heartbeat may succeed.
        with contextlib.suppress(OSError):
            try:
                with open(self._path, 'r+b') as file:
                    content = file.read()
                    if content == self._content:
                        # Writing sets the time by the clock of the file system.
                        file.seek(0)
                        file.write(content)
                    elif content:
                        self._lost = parse_holder(content)
                    # An empty file is being written at this moment.
            except FileNotFoundError:
                if time.time() - self._fresh > self._stale:
                    # Another process may have had the lock in the meantime, and released it.
                    self._lost = Holder()
                    return
                self._create(self._content)
            self._fresh = time.time()
