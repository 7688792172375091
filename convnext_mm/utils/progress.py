"""How far long work is, on one line of a terminal or on a line now and then of a log."""
import sys
import time

#: Seconds between two lines of progress where the output is not a terminal.
PACE = 10


def clock(seconds):
    """Seconds as minutes and seconds, ``7:05``."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


class Progress:
    """Shows one line of progress: rewritten in place on a terminal, elsewhere a new one every ``PACE`` seconds.

    Args:
        stream (TextIO, optional): Defaults to stdout.
        indent (str): Put before every line. Defaults to none.
    """

    def __init__(self, stream=None, indent=''):
        self.stream, self.indent = stream or sys.stdout, indent
        self.live, self.shown = self.stream.isatty(), -PACE

    def show(self, text):
        if self.live:
            print(f'\r\033[K{self.indent}{text}', end='', flush=True, file=self.stream)
        elif time.monotonic() - self.shown >= PACE:
            self.shown = time.monotonic()
            print(f'{self.indent}{text}', flush=True, file=self.stream)

    def end(self, text):
        print(f'\r\033[K{self.indent}{text}' if self.live else f'{self.indent}{text}', flush=True, file=self.stream)


class Bar:
    """A bar of what is done of a known number, with the time left, on stderr."""

    WIDTH = 24

    def __init__(self, total, what):
        self.total, self.what, self.done = total, what, 0
        self.start, self.progress = time.monotonic(), Progress(sys.stderr)

    def add(self, number=1):
        self.done += number
        elapsed = time.monotonic() - self.start
        filled = self.WIDTH * self.done // self.total
        left = elapsed / self.done * (self.total - self.done)
        self.progress.show(f'[{"#" * filled}{"." * (self.WIDTH - filled)}] {self.done}/{self.total} {self.what}, '
                           f'{clock(left)} left')
        if self.done == self.total:
            self.progress.end(f'{self.total} {self.what} in {clock(elapsed)}')

    def say(self, text):
        """Print a line that stays, above the bar."""
        self.progress.end(text)
