"""Every module, and so every registered type, is imported where Windows and macOS lack what Linux has."""
import pkgutil
import subprocess
import sys

import pytest

import convnext_mm
from tests.helpers.architecture import EXTENDS, NEED_OPTIONAL, PACKAGE
from tests.helpers.paths import ROOT

#: Names of `os` and `signal`, and modules, that are missing there.
MISSING = {
    'windows': dict(
        os=('O_CLOEXEC', 'O_DIRECTORY', 'O_NOFOLLOW', 'O_NONBLOCK', 'fork', 'getuid', 'geteuid', 'getpgid', 'killpg',
            'mkfifo', 'register_at_fork', 'sched_getaffinity', 'setsid', 'statvfs', 'sysconf', 'uname'),
        signal=('SIGALRM', 'SIGCHLD', 'SIGHUP', 'SIGKILL', 'SIGUSR1', 'SIGUSR2', 'pthread_kill', 'pthread_sigmask',
                'setitimer', 'sigpending', 'sigtimedwait', 'sigwait', 'sigwaitinfo', 'SIG_BLOCK'),
        modules=('fcntl', 'grp', 'posix_ipc', 'pwd', 'resource', 'termios', 'triton')),
    'macos': dict(os=('sched_getaffinity',), signal=('sigtimedwait', 'sigwaitinfo'), modules=('triton',)),
}


def names_of_modules():
    """Return the modules of the package that need no optional package."""
    names = [module.name for module in pkgutil.walk_packages(convnext_mm.__path__, f'{PACKAGE}.')]
    return [name for name in names if name[len(PACKAGE) + 1:] not in {*NEED_OPTIONAL, '__main__'}]


@pytest.mark.parametrize('platform', MISSING)
def test_every_module_is_imported(platform):
    for toolbox in ('mmdet', 'mmseg', 'jinja2'):
        pytest.importorskip(toolbox, reason=f'modules extend, or use, {toolbox}')
    missing = MISSING[platform]
    program = '\n'.join([
        # What others import is imported as on Linux: they have their own ways elsewhere.
        'import importlib, multiprocessing.popen_fork, os, signal, sys',
        'import bokeh.models, jinja2, mmdet.apis, mmseg.apis, mmengine.runner, pycocotools.coco',
        f'for module, names in ((os, {missing["os"]}), (signal, {missing["signal"]})):',
        '    for name in names:', '        module.__dict__.pop(name, None)',
        f'sys.modules.update(dict.fromkeys({missing["modules"]}))',
        f'for name in {names_of_modules()}:', '    importlib.import_module(name)',
        'from convnext_mm.engine.hooks import interruption',
        'from convnext_mm.engine.worker_signals import shield_workers',
        'shield_workers(None, interruption.SIGNALS)',
        'print(*(number.name for number in interruption.SIGNALS))'])
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-2000:]
    expected = 'SIGTERM SIGINT' if platform == 'windows' else 'SIGTERM SIGUSR1 SIGINT'
    assert result.stdout.splitlines()[-1] == expected
    assert all(any(name.startswith(f'{PACKAGE}.{place}') for name in names_of_modules()) for place in EXTENDS)


def test_a_file_is_written_durably_where_folders_cannot_be_opened(tmp_path, monkeypatch):
    """Windows opens no folder, and synchronises no file that is open for reading."""
    from convnext_mm.utils import files

    def fail(*_):
        raise PermissionError
    monkeypatch.delattr(files.os, 'O_DIRECTORY')
    monkeypatch.setattr(files.os, 'fsync', fail)
    with files.whole_file(tmp_path / 'a.txt', durable=True) as temporary:
        temporary.write_text('a')
    assert (tmp_path / 'a.txt').read_text() == 'a'
