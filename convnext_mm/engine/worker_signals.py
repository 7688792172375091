"""Keep signals that a scheduler sends to every process of a job from ending the workers of data loaders."""
import functools
import multiprocessing
import os
import signal
import threading


def shield_workers(loader, signals):
    """Let only their parent's signals end the workers that a loader is going to start.

    torch's workers end by a SIGTERM from any process, and then the training fails.

    Args:
        loader (DataLoader): Without workers yet.
        signals (Sequence[signal.Signals]): The signals to ignore from other processes.
    """
    # macOS and Windows cannot tell who sent a signal.
    if hasattr(signal, 'sigwaitinfo'):
        loader.worker_init_fn = functools.partial(_start_worker, loader.worker_init_fn, signals)


def _start_worker(start, signals, worker):
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_wait_for_parent, args=(signals,), daemon=True).start()
    if start is not None:
        start(worker)


def _wait_for_parent(signals):
    """End this worker when its parent sends one of the signals."""
    while signal.sigwaitinfo(signals).si_pid != multiprocessing.parent_process().pid:
        pass
    # torch's own handler ends a worker in the same way.
    os._exit(0)
