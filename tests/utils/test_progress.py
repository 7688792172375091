"""The bar counts, tells the time left, and is one line on a terminal."""
import sys

import pytest

from convnext_mm.utils import progress


@pytest.mark.parametrize('live', [True, False])
def test_bar(live, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: live, raising=False)
    seconds = iter((0., 30., 60., 65., 90., 100., 120., 130.))
    monkeypatch.setattr(progress.time, 'monotonic', lambda: next(seconds))
    bar = progress.Bar(4, 'images')
    bar.add()
    bar.say('b.png is skipped')
    bar.add(2)
    shown = capsys.readouterr().err.replace('\r\033[K', '|')
    first, second = f'[{"#" * 6}{"." * 18}] 1/4 images, ', f'[{"#" * 18}{"." * 6}] 3/4 images, '
    if live:
        assert shown == f'|{first}1:30 left|b.png is skipped\n|{second}0:20 left'
    else:
        assert shown == f'{first}1:30 left\nb.png is skipped\n{second}0:30 left\n'
