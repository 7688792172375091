"""Show how far long work is: on a terminal one line that rich draws, in a log a line now and then."""
import sys
import time
import weakref
from typing import TextIO

from rich.console import Console
from rich.filesize import decimal
from rich.live import Live
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

#: Seconds between two lines of a log.
PACE = 10.


def clock(seconds: float) -> str:
    """Return seconds as minutes and seconds, ``7:05``."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def _start(owner, display, stream, *content, **settings):
    """Start a display of rich's that goes away when it stops, at the latest when its owner goes."""
    # What is printed meanwhile appears above the display, but a stream that goes to a file must not come along.
    started = display(*content, console=Console(file=stream), transient=True, redirect_stdout=sys.stdout.isatty(),
                      redirect_stderr=sys.stderr.isatty(), **settings)
    started.start()
    # Rich hides the cursor, which must come back also after an error.
    weakref.finalize(owner, started.stop)
    return started


class Line:
    """Shows one line of text: rewritten in place on a terminal, elsewhere a new one every ``PACE`` seconds.

    Args:
        stream (TextIO, optional): Defaults to stdout.
        indent (str): Put before every line. Defaults to none.
    """

    def __init__(self, stream: TextIO | None = None, indent: str = ''):
        self._stream, self._indent, self._shown = stream or sys.stdout, indent, -PACE
        self._live = _start(self, Live, self._stream, auto_refresh=False) if self._stream.isatty() else None

    def show(self, text: str) -> None:
        """Show what goes on."""
        if self._live:
            self._live.update(Text(f'{self._indent}{text}', overflow='ellipsis', no_wrap=True), refresh=True)
        elif time.monotonic() - self._shown >= PACE:
            self._shown = time.monotonic()
            print(f'{self._indent}{text}', flush=True, file=self._stream)

    def end(self, text: str) -> None:
        """Print a line that stays, in the place of the other."""
        if self._live:
            self._live.stop()
            self._live = None
        print(f'{self._indent}{text}', flush=True, file=self._stream)


class Bar:
    """Shows on stderr how much of a known number is done, and the time left.

    Args:
        total (int): All there is to do.
        what (str): Its name, in the plural.
        size (bool): Whether numbers are bytes. Defaults to False.
        done (int): What an earlier call has done. Defaults to 0.
    """

    def __init__(self, total: int, what: str, size: bool = False, done: int = 0):
        self.total, self.what, self.done, self._before = total, what, done, done
        self._text = decimal if size else str
        self._begun, self._shown = time.monotonic(), -PACE
        self._rich = None
        if sys.stderr.isatty():
            # Without markup, as names of files may hold brackets.
            self._rich = _start(self, RichProgress, sys.stderr, BarColumn(24),
                                TextColumn('{task.description}', markup=False))
            self._task = self._rich.add_task(self._state(), total=total, completed=done)

    def _state(self):
        return f'{self._text(self.done)} of {self._text(self.total)} {self.what}'

    def add(self, number: int = 1) -> None:
        """Note that ``number`` more are done."""
        self.done += number
        elapsed = time.monotonic() - self._begun
        left = elapsed / max(self.done - self._before, 1) * (self.total - self.done)
        if self.done >= self.total:
            self.end(f'{self._text(self.total)} {self.what} in {clock(elapsed)}')
            return
        line = f'{self._state()}, {clock(left)} left'
        if self._rich:
            self._rich.update(self._task, completed=self.done, description=line)
        elif time.monotonic() - self._shown >= PACE:
            self._shown = time.monotonic()
            print(line, flush=True, file=sys.stderr)

    def say(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        if self._rich:
            self._rich.console.print(Text(text), soft_wrap=True)
        else:
            print(text, flush=True, file=sys.stderr)

    def end(self, text: str) -> None:
        """Take the bar away, and print a line in its place."""
        if self._rich:
            self._rich.stop()
            self._rich = None
        print(text, flush=True, file=sys.stderr)
