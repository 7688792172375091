"""What the tests with random input share: how they run, random damage to files, limits for reading a damaged one."""
import contextlib
import resource
import signal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: Seconds and bytes that one damaged file may take.
SECONDS, MEMORY = 60, 2 << 30


def damages(length, insertions=()):
    """A strategy for one to four things to be done to a file of ``length`` bytes, for ``damage``.

    Args:
        length (int): Bytes of the sound file.
        insertions (Sequence[bytes]): What may be put in besides random bytes.
    """
    # The ends of a file hold what the rest is read by.
    place = st.one_of(st.integers(0, length), st.integers(0, min(200, length)),
                      st.integers(max(length - 400, 0), length))
    inserted = st.one_of(st.binary(max_size=12), st.sampled_from([b'\xff' * 8, b'\0' * 8, *insertions]))
    what = st.sampled_from(['flip', 'write', 'insert', 'delete', 'cut', 'repeat'])
    return st.lists(st.tuples(what, place, st.integers(0, 255), inserted), min_size=1, max_size=4)


def damage(content, actions):
    """``content`` (bytes) with things done to it that ``damages`` chose."""
    content = bytearray(content)
    for what, place, number, inserted in actions:
        place = min(place, max(len(content) - 1, 0))
        if what == 'flip' and content:
            content[place] ^= 1 << number % 8
        elif what == 'write':
            content[place:place + len(inserted)] = inserted
        elif what == 'insert':
            content[place:place] = inserted
        elif what == 'delete':
            del content[place:place + number]
        elif what == 'repeat':
            content[place:place] = content[place:place + number]
        elif what == 'cut' and number < 64:
            # One in four, as little is left to be found behind it.
            del content[place:]
    return bytes(content)


@contextlib.contextmanager
def bounded():
    """Raise in what takes too long, and let what asks for too much memory fail, instead of the machine."""
    def late(*_):
        raise TimeoutError(f'not done after {SECONDS} s')

    with open('/proc/self/statm') as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    # Of the processor's time, which others on the machine do not take.
    before, limits = signal.signal(signal.SIGPROF, late), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def run(check, examples):
    """Call a hypothesis test with ``examples`` examples, always the same ones."""
    settings(max_examples=examples, deadline=None, derandomize=True, database=None,
             suppress_health_check=list(HealthCheck))(check)()


def show(tally):
    """``{outcome: count}`` in words."""
    return f'{sum(tally.values())} tried: ' + ', '.join(f'{count} {name}' for name, count in tally.most_common())
