"""What is measured: seconds of calls in turn, medians with their spread, and the bytes that autograd keeps."""
import gc
import math
import multiprocessing
import statistics
import time
import weakref
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks

from convnext_mm.utils.errors import UserError

#: A sample repeats a call until it lasts this long in seconds, as the clock and the GPU's queue ask for.
LEAST_SAMPLE = .02
#: A call is warm after this many seconds; a GPU is faster.
WARM = .1 if torch.cuda.is_available() else .3


class Spread(NamedTuple):
    """Median and quartiles, in seconds."""

    median: float
    low: float
    high: float


def spread(samples):
    """Return the median and quartiles of one sample or more."""
    if len(samples) == 1:
        return Spread(*samples * 3)
    low, median, high = statistics.quantiles(samples, n=4, method='inclusive')
    return Spread(median, low, high)


def synchronize():
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def time_call(call, repeats=1):
    """Return the seconds of ``call()``, the mean of ``repeats`` without a pause."""
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronize()
    return (time.perf_counter() - start) / repeats


def warm_up(call):
    """Call until ``WARM`` seconds are over; return the seconds of the last call."""
    spent = last = time_call(call)
    while spent < WARM:
        last = time_call(call)
        spent += last
    return last


def interleave(calls, rounds, first=None, step=lambda: None):
    """Time calls in turn, A B C A B C, so that a slower or faster minute of the machine meets all alike.

    Args:
        calls (dict[str, Callable]): What is timed, warm already.
        rounds (dict[str, int]): Samples of each; a call that has had all of its own is passed over.
        first (dict[str, float], optional): Seconds of a call each, as seen in warm-up: short ones are repeated within
            a sample.
        step (Callable): Called after every sample.

    Returns:
        dict[str, list[float]]: Seconds of one call, a list of samples each.
    """
    repeats = {name: max(1, math.ceil(LEAST_SAMPLE / max((first or {}).get(name, LEAST_SAMPLE), 1e-6)))
               for name in calls}
    samples = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for turn in range(max(rounds.values())):
            for name, call in calls.items():
                if turn < rounds[name]:
                    samples[name].append(time_call(call, repeats[name]))
                    step()
    finally:
        gc.enable()
    return samples


def plan_rounds(seconds, warm, slow, least, most):
    """Return the rounds of each call, so that all fit into ``seconds`` if the least do.

    Args:
        seconds (float): For all calls in all rounds.
        warm (dict[str, float]): Seconds of a call each, as seen in warm-up.
        slow (Container[str]): Names of calls that get one round less than the least: nothing is judged by them.
        least, most (int): Rounds of the others.
    """
    lasts = {name: max(seconds_of_call, LEAST_SAMPLE) for name, seconds_of_call in warm.items()}
    of_slow = (least - 1) * sum(lasts[name] for name in warm if name in slow)
    of_others = sum(lasts[name] for name in warm if name not in slow)
    rounds = min(max(int((seconds - of_slow) / max(of_others, 1e-9)), least), most)
    return {name: max(least - 1, 1) if name in slow else rounds for name in warm}


def alone(function, *arguments):
    """Return ``function(*arguments)``, run in a new process.

    What ran before in a process changes the times of what follows: memory that the C library has kept is used again,
    and costs nothing, where else the kernel has to hand out and clear new pages for every large result.

    Raises:
        UserError: The process died.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise UserError('the process of a measurement was killed: is there enough memory?') from None


def process_bytes(*fields):
    """Return some fields of this process's ``/proc/self/status``, in bytes.

    ``VmHWM`` is the most that was resident. (``getrusage`` knows another one, which a process takes over from the one
    that started it.)
    """
    with open('/proc/self/status') as file:
        status = dict(line.split(':', 1) for line in file)
    return [1024 * int(status[field].split()[0]) for field in fields]


class _Kept:
    """A tensor that a node of the graph keeps. The graph alone holds it, so what is freed is not counted."""

    def __init__(self, tensor):
        # Not the tensor itself: a node would hold its own output, and so itself.
        self.tensor = tensor.detach()


def kept_bytes(forward, parameters):
    """Return the bytes that autograd keeps for the backward pass of ``forward()``, and its outputs.

    Counted over distinct storages, whole ones: a view keeps all that it is a view of. What the graph keeps is what
    nodes saved, in custom functions and as inputs of checkpointed blocks too, and tensors that custom functions hold
    as attributes.

    Args:
        forward (Callable): Returns tensors.
        parameters (Iterable[Tensor]): Not counted, as they are there anyway.
    """
    kept = weakref.WeakSet()

    def pack(tensor):
        entry = _Kept(tensor)
        kept.add(entry)
        return entry
    with saved_tensors_hooks(pack, lambda entry: entry.tensor):
        outputs = forward()
    tensors = [entry.tensor for entry in kept]
    tensors += [tensor for node in _nodes(outputs) for tensor in _held(list(getattr(node, '__dict__', {}).values()))]
    storages = {(storage.device, storage.data_ptr()): storage.nbytes()
                for storage in (tensor.untyped_storage() for tensor in tensors)}
    for parameter in parameters:
        storage = parameter.untyped_storage()
        storages.pop((storage.device, storage.data_ptr()), None)
    return sum(storages.values()), outputs


def _nodes(outputs):
    """Return every node of the graph behind some tensors."""
    stack, seen = [output.grad_fn for output in outputs], set()
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack.extend(following for following, _ in node.next_functions)
    return seen


def _held(value):
    """Return the tensors in a value, and in lists and tuples of it."""
    if torch.is_tensor(value):
        return [value]
    return [tensor for entry in value for tensor in _held(entry)] if isinstance(value, (list, tuple)) else []
