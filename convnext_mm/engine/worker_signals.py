"""Signals that a scheduler sends to every process of a job: workers of data loaders leave them to the main process."""
import functools
import multiprocessing
import os
import signal
import threading


def shield_workers(loader, signals):
    """Let the workers that a loader is going to start end by no signal but their own parent's.

    torch's workers end by a SIGTERM from anywhere, and take the training along.

    Args:
        loader (DataLoader): Without workers yet.
        signals (Sequence[signal.Signals]): Those to leave alone.
    """
    # macOS cannot tell who sent a signal.
    if hasattr(signal, 'sigwaitinfo'):
        loader.worker_init_fn = functools.partial(_start_worker, loader.worker_init_fn, signals)


def _start_worker(start, signals, worker):
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_wait_for_parent, args=(signals,), daemon=True).start()
    if start is not None:
        start(worker)


def _wait_for_parent(signals):
    while signal.sigwaitinfo(signals).si_pid != multiprocessing.parent_process().pid:
        pass
    # As torch's own handler ends them.
    os._exit(0)
