"""How far long work is: on a terminal one line that rich draws, in a log a line now and then."""
import sys
import time

from rich.console import Console
from rich.filesize import decimal
from rich.live import Live
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

#: Seconds between two lines of a log.
PACE = 10


def clock(seconds):
    """Return seconds as minutes and seconds, ``7:05``."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


class Line:
    """Shows one line of text: rewritten in place on a terminal, elsewhere a new one every ``PACE`` seconds.

    Args:
        stream (TextIO, optional): Defaults to stdout.
        indent (str): Put before every line. Defaults to none.
    """

    def __init__(self, stream=None, indent=''):
        self._stream, self._indent, self._shown = stream or sys.stdout, indent, -PACE
        self._live = None
        if self._stream.isatty():
            # Transient: what is said at the end takes its place.
            self._live = Live(console=Console(file=self._stream), transient=True, auto_refresh=False)
            self._live.start()

    def show(self, text):
        """Show what goes on."""
        if self._live:
            self._live.update(Text(f'{self._indent}{text}', overflow='ellipsis', no_wrap=True), refresh=True)
        elif time.monotonic() - self._shown >= PACE:
            self._shown = time.monotonic()
            print(f'{self._indent}{text}', flush=True, file=self._stream)

    def end(self, text):
        """Print a line that stays, in the place of the other."""
        if self._live:
            self._live.stop()
            self._live = None
        print(f'{self._indent}{text}', flush=True, file=self._stream)


class Bar:
    """A bar of what is done of a known number, with the time left, on stderr.

    Args:
        total (int): All there is to do.
        what (str): Its name, in the plural.
        size (bool): Whether numbers are bytes. Defaults to False.
        done (int): What was done before, by an earlier call. Defaults to 0.
    """

    def __init__(self, total, what, size=False, done=0):
        self.total, self.what, self.done, self._before = total, what, done, done
        self._text = decimal if size else str
        self._start, self._shown = time.monotonic(), -PACE
        self._rich = None
        if sys.stderr.isatty():
            self._rich = RichProgress(BarColumn(24), TextColumn('{task.description}'),
                                      console=Console(file=sys.stderr), transient=True)
            self._task = self._rich.add_task('', total=total)
            self._rich.start()

    def add(self, number=1):
        """Note that ``number`` more are done."""
        self.done += number
        elapsed = time.monotonic() - self._start
        left = elapsed / max(self.done - self._before, 1) * (self.total - self.done)
        if self.done >= self.total:
            self.end(f'{self._text(self.total)} {self.what} in {clock(elapsed)}')
            return
        line = f'{self._text(self.done)} of {self._text(self.total)} {self.what}, {clock(left)} left'
        if self._rich:
            self._rich.update(self._task, completed=self.done, description=line)
        elif time.monotonic() - self._shown >= PACE:
            self._shown = time.monotonic()
            print(line, flush=True, file=sys.stderr)

    def say(self, text):
        """Print a line that stays, above the bar."""
        if self._rich:
            self._rich.console.print(Text(text))
        else:
            print(text, flush=True, file=sys.stderr)

    def end(self, text):
        """Take the bar away, and print a line in its place."""
        if self._rich:
            self._rich.stop()
            self._rich = None
        print(text, flush=True, file=sys.stderr)
