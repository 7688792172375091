"""The bar counts, tells the time left, and is one line on a terminal."""
import gc
import io
import sys

import pytest

from convnext_mm.utils import progress


@pytest.fixture
def clock(monkeypatch):
    """``clock(seconds)`` sets what time it is."""
    def set_time(seconds):
        monkeypatch.setattr(progress.time, 'monotonic', lambda: seconds)
    set_time(0.)
    return set_time


@pytest.mark.parametrize(('settings', 'lines'), [
    (dict(total=4, what='images'), ['1 of 4 images, 1:30 left', 'b.png is skipped', '3 of 4 images, 0:30 left',
                                    '4 images in 2:00']),
    (dict(total=4000, what='of a.pth', size=True), [
        '1 byte of 4.0 kB of a.pth, 1999:30 left', 'b.png is skipped', '3 bytes of 4.0 kB of a.pth, 1998:30 left'])])
def test_a_bar_in_a_log(settings, lines, clock, capsys):
    bar = progress.Bar(**settings)
    clock(30.)
    bar.add()
    bar.say('b.png is skipped')
    clock(35.)
    bar.add()
    clock(90.)
    bar.add()
    clock(120.)
    bar.add()
    assert capsys.readouterr().err.splitlines()[:len(lines)] == lines


def test_what_an_earlier_call_did_takes_no_time(clock, capsys):
    bar = progress.Bar(100, 'images', done=90)
    clock(10.)
    bar.add(5)
    assert capsys.readouterr().err == '95 of 100 images, 0:10 left\n'


def test_a_line_in_a_log(clock, capsys):
    line = progress.Line(indent='  ')
    for seconds, text in ((0., 'a'), (5., 'b'), (12., 'c')):
        clock(seconds)
        line.show(text)
    line.end('done')
    assert capsys.readouterr().out == '  a\n  c\n  done\n'


class Terminal(io.StringIO):
    def isatty(self):
        return True


def use_terminal(monkeypatch):
    """Put a terminal in the place of stderr; in the test itself, as pytest sets stderr after the fixtures."""
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    return terminal


def test_on_a_terminal_what_goes_on_is_taken_away(monkeypatch):
    terminal = use_terminal(monkeypatch)
    bar = progress.Bar(2, 'images')
    bar.add()
    bar.say('b.png is skipped')
    bar.add()
    line = progress.Line(terminal)
    line.show('loading')
    line.end('done')
    shown = terminal.getvalue()
    assert 'b.png is skipped' in shown and shown.rstrip().endswith('done')
    assert '2 images in 0:00' in shown and '\x1b[2K' in shown


def test_brackets_in_names_are_shown_as_they_are(monkeypatch):
    terminal = use_terminal(monkeypatch)
    bar = progress.Bar(2, 'parts of [bold]a[/]')
    bar.add()
    bar.say('[red]b[/]')
    bar.end('done')
    assert '1 of 2 parts of [bold]a[/]' in terminal.getvalue() and '[red]b[/]' in terminal.getvalue()


def test_the_cursor_comes_back_after_an_error(monkeypatch):
    terminal = use_terminal(monkeypatch)
    def fail():
        bar = progress.Bar(2, 'images')
        bar.add()
        raise KeyError

    with pytest.raises(KeyError) as raised:
        fail()
    assert '\x1b[?25l' in terminal.getvalue() and '\x1b[?25h' not in terminal.getvalue(), 'the bar is there'
    # The traceback holds the bar; a tool ends here.
    del raised
    gc.collect()
    assert terminal.getvalue().rfind('\x1b[?25h') > terminal.getvalue().rfind('\x1b[?25l')


def test_what_is_printed_to_a_file_does_not_go_to_the_terminal(monkeypatch, capsys):
    terminal = use_terminal(monkeypatch)
    bar = progress.Bar(2, 'images')
    print('for the file')
    bar.end('done')
    assert capsys.readouterr().out == 'for the file\n' and 'for the file' not in terminal.getvalue()


@pytest.mark.parametrize(('seconds', 'shown'), [
    (0, '0:00'), (9.9, '0:09'), (61, '1:01'), (725, '12:05'), (3700, '61:40')])
def test_a_clock_shows_minutes_and_seconds(seconds, shown):
    assert progress.clock(seconds) == shown
