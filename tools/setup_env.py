"""Make the environment of one stack, with the standard library alone.

    python3 tools/setup_env.py onedl        ->  .venv            (the default)
    python3 tools/setup_env.py openmmlab    ->  .venv-openmmlab
    python3 tools/setup_env.py torch21      ->  .venv-torch21    (torch and mmengine alone)
    python3 tools/setup_env.py docs         ->  .venv-docs       (what `make docs` needs, without the package)

Versions come from ``requirements/<stack>.txt``. A finished environment is recognised in an instant, an
interrupted set-up goes on where it stopped, and the compiled mmcv is kept in a cache that all clones share.
CONVNEXT_MM_MMCV_WHEEL, the path of a wheel of mmcv, is taken instead of compiling, if it fits this Python and torch.
"""
import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = 'uv==0.13.8'
BUILD_TOOLS = ('setuptools', 'wheel', 'ninja', 'psutil')
WHEEL = 'CONVNEXT_MM_MMCV_WHEEL'
#: Seconds between two looks at a compilation, and between two lines about it where lines cannot be written over.
LOOK, TELL = 1, 30
#: stack -> (folder, mmcv distribution or None, extras of setup.py or None for no package of this project, packages
#: besides, newest Python minor version)
STACKS = {
    'onedl': ('.venv', 'onedl-mmcv', 'onedl,dev', (), None),
    # mmcv 2.1's setup.py does not run on Python 3.13.
    'openmmlab': ('.venv-openmmlab', 'mmcv', 'openmmlab,dev', (), 12),
    'torch21': ('.venv-torch21', None, 'test', ('torch', 'mmengine', 'numpy'), 11),
    'docs': ('.venv-docs', None, None, ('zensical',), None),
}


class SetupError(Exception):
    """Something the user can mend; shown as one line."""


def run(*command, **kwargs):
    """Run a command, output passed through; raise ``SetupError`` when it fails."""
    code = subprocess.run([str(c) for c in command], **kwargs).returncode
    if code:
        raise SetupError(f'{" ".join(map(str, command))!r} failed with exit code {code}; '
                         'what it printed stands above, and the same call goes on from here')


def find_python(newest_minor):
    """The interpreter to build on: this one, or where a stack needs an older one, the newest that fits."""
    if newest_minor is None or sys.version_info[:2] <= (3, newest_minor):
        return sys.executable
    names = [f'python3.{minor}' for minor in range(newest_minor, 9, -1)]
    for name in names:
        # A pyenv shim exists for versions that are not active, so the interpreter is asked, not only found.
        if shutil.which(name) and subprocess.run([name, '-c', 'import venv'], capture_output=True).returncode == 0:
            return name
    raise SetupError(f'this stack needs one of {", ".join(names)} on PATH; this is Python '
                     f'{sys.version_info[0]}.{sys.version_info[1]}')


def pinned(constraints, name):
    """The pinned version of a distribution in a constraints file."""
    for line in constraints.read_text().splitlines():
        if line.startswith(f'{name}=='):
            return line.split('==')[1].split()[0]
    raise SetupError(f'{constraints} does not pin {name}')


@contextlib.contextmanager
def build_cache(python):
    """The folder in which this machine's builds for one Python, torch and compiler are kept, locked."""
    probe = ('import sys, torch; from torch.utils.cpp_extension import CUDA_HOME; print("cp%d%d-torch%s-%s" % ('
             '*sys.version_info[:2], torch.__version__, '
             '"cuda" if CUDA_HOME and torch.cuda.is_available() else "cpu"))')
    # torch's warnings about CUDA are no news here.
    asked = subprocess.run([str(python), '-c', probe], capture_output=True, text=True)
    if asked.returncode:
        raise SetupError(f'the torch that was installed cannot be imported: {asked.stderr.strip().splitlines()[-1]}')
    tag = asked.stdout.split()[-1]
    folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'convnext_mm' / 'build' / tag
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as lock:
        # Two set-ups at once: the second waits, and finds the wheel.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def progress(text, seconds):
    """What ninja has done, from the text of its log: files of all files and the time left; None before the first."""
    counts = re.findall(r'^\[(\d+)/(\d+)\]', text, re.M)
    if not counts:
        return None
    done, total = map(int, counts[-1])
    left = round(seconds / done * (total - done))
    return f'{done} of {total} files compiled, about {left // 60}:{left % 60:02d} left'


def show_progress(process, log):
    """Tell how far a compilation is until it ends: one line on a terminal, a line every ``TELL`` seconds elsewhere."""
    start = told = time.monotonic()
    terminal = sys.stdout.isatty()
    while process.poll() is None:
        time.sleep(LOOK)
        now = time.monotonic()
        line = progress(log.read_text(errors='replace'), now - start)
        if line and (terminal or now - told >= TELL):
            print(f'\r  {line}\033[K' if terminal else f'  {line}', end='' if terminal else '\n', flush=True)
            told = now
    if terminal:
        print()


#: Prints a wheel's distribution, its version, and whether this Python takes it.
ABOUT = """import sys
from pip._vendor.packaging import tags, utils
name, version, _, made_for = utils.parse_wheel_filename(sys.argv[1])
print(name, version.public, not made_for.isdisjoint(tags.sys_tags()))"""
#: Prints torch's version, and imports the operators of the mmcv in a folder.
RUNS = """import sys, torch
print(torch.__version__, flush=True)
sys.path.insert(0, sys.argv[1])
import mmcv.ops"""


def check_wheel(python, wheel, name, version):
    """Raise ``SetupError`` unless a wheel is mmcv's pinned version for this Python, and its operators run on its torch.

    It is unpacked into a folder that is removed again, so that nothing of a wheel that does not fit is installed.
    ``mmcv.ops`` is imported in a process of its own, which needs torch and mmengine.
    """
    if not (wheel.is_file() and zipfile.is_zipfile(wheel)):
        raise SetupError(f'{WHEEL}={wheel} is no wheel: give the path of a .whl file of {name} {version}, or unset it '
                         f'to compile mmcv here')
    about = subprocess.run([str(python), '-c', ABOUT, wheel.name], capture_output=True, text=True)
    found, has, fits = about.stdout.split() if about.returncode == 0 else (wheel.name, '(no version in its name)', '')
    if (found, has) != (name, version):
        raise SetupError(f'{WHEEL}={wheel} is {found} {has}; this stack needs {name} {version}')
    if fits != 'True':
        asked = subprocess.run([str(python), '--version'], capture_output=True, text=True).stdout.strip()
        raise SetupError(f'{WHEEL}={wheel} is for another Python or another machine than this {asked}: give a wheel '
                         f'for it, or unset {WHEEL} to compile mmcv here')
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        asked = subprocess.run([str(python), '-c', RUNS, folder], capture_output=True, text=True)
    if asked.returncode:
        torch, error = asked.stdout.strip() or 'that cannot be imported', asked.stderr.strip().splitlines() or ['']
        raise SetupError(f'{WHEEL}={wheel}: {name} {version} of this wheel does not run with torch {torch} '
                         f'({error[-1]}): give one that was built for it, or unset {WHEEL} to compile mmcv here')


#: Prints the compiler's options that find torch's headers.
HEADERS = """from torch.utils import cpp_extension
print(*(f'-I{path}' for path in cpp_extension.include_paths()))"""


def precompile(python, source, flags):
    """Let GCC parse torch's headers once, not once a file: that is three quarters of the time. Return the file.

    A compiler that cannot use the file passes it over. It stays where it is until all is compiled: ninja would begin
    anew where it is newer than what was compiled with it.
    """
    header = source / 'mmcv/ops/csrc/common/pytorch_cpp_helper.hpp'
    target = header.with_name(f'{header.name}.gch')
    if not target.exists():
        asked = subprocess.run([str(python), '-c', HEADERS], capture_output=True, text=True)
        partial = target.with_suffix('.partial')
        command = [os.environ.get('CXX', 'c++'), *flags.split(), '-fPIC', '-std=c++17', *asked.stdout.split(),
                   '-x', 'c++-header', str(header), '-o', str(partial)]
        if subprocess.run(command, capture_output=True).returncode == 0:
            partial.rename(target)
    return target


def build_mmcv(python, name, version, cache):
    """Compile mmcv into a wheel, once a machine; the objects are kept, so an interrupted build resumes."""
    wheels = cache / 'wheels'
    pattern = f'{name.replace("-", "_")}-{version}*.whl'
    found = sorted(wheels.glob(pattern))
    if found:
        return found[0]
    source = cache / f'{name.replace("-", "_")}-{version}'
    if not (source / 'setup.py').is_file():
        archives = cache / 'sdist'
        run(python, '-m', 'pip', 'download', '-q', '--no-deps', '--no-build-isolation', '--no-binary', ':all:',
            '-d', archives, f'{name}=={version}')
        archive, = archives.glob(f'*{version}.tar.gz')
        shutil.rmtree(cache / 'unpack', ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extractall(cache / 'unpack', **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
        (cache / 'unpack' / archive.name[:-len('.tar.gz')]).rename(source)
    print(f'compiling {name} {version}: about 3 minutes on 2 cores, once on this machine (kept in {cache})', flush=True)
    dist = cache / 'dist'
    log = cache / f'{name}.log'
    # As Python compiles extensions, but without information for debuggers: that is half of the time.
    flags = os.environ.get('CFLAGS', '-O3 -DNDEBUG -fwrapv -g0')
    environment = {**os.environ, 'MMCV_WITH_OPS': '1', 'MAX_JOBS': str(os.cpu_count()), 'CFLAGS': flags}
    precompiled = None
    if cache.name.endswith('cpu'):
        # A GPU without the CUDA compiler: mmcv would try to compile for it, and fail.
        environment['CUDA_VISIBLE_DEVICES'] = ''
        precompiled = precompile(python, source, flags)
    with open(log, 'w') as stream:
        process = subprocess.Popen([python, 'setup.py', '-q', 'bdist_wheel', '-d', str(dist)], cwd=source,
                                   env=environment, stdout=stream, stderr=subprocess.STDOUT)
        show_progress(process, log)
    if process.returncode:
        raise SetupError(f'compiling {name} failed; see {log} (a C++ compiler and the Python headers are needed)')
    if precompiled:
        precompiled.unlink(missing_ok=True)
    wheels.mkdir(exist_ok=True)
    built, = dist.glob(pattern)
    return Path(shutil.move(str(built), str(wheels / built.name)))


def mmcv_wheel(python, install, name, version):
    """The wheel of mmcv to install: the one that the user gives, or one compiled here."""
    given = os.environ.get(WHEEL)
    if given:
        run(*install, name.replace('mmcv', 'mmengine'), 'opencv-python-headless')
        check_wheel(python, Path(given).absolute(), name, version)
        return Path(given).absolute()
    with build_cache(python) as cache:
        return build_mmcv(python, name, version, cache)


def setup(stack):
    """Make or complete the environment of ``stack``; return the folder."""
    folder, mmcv, extras, besides, newest_minor = STACKS[stack]
    venv, constraints = ROOT / folder, ROOT / 'requirements' / f'{stack}.txt'
    inputs = constraints, ROOT / 'setup.py', Path(__file__)
    state = hashlib.sha256(b''.join(path.read_bytes() for path in inputs)).hexdigest()
    stamp, python = venv / '.ready', venv / 'bin' / 'python'
    if stamp.is_file() and stamp.read_text() == state:
        return venv
    if sys.version_info < (3, 10):  # noqa: UP036 -- this script runs before anything checks the version
        raise SetupError(f'Python 3.10 or newer is needed, this is {sys.version.split()[0]}')
    start = time.time()
    print(f'setting up {folder} (stack {stack})', flush=True)
    stamp.unlink(missing_ok=True)
    if not (venv / 'bin' / 'pip').is_file() or not python.exists():
        run(find_python(newest_minor), '-m', 'venv', '--clear', venv)
    run(python, '-m', 'pip', 'install', '-q', UV)
    install = (venv / 'bin' / 'uv', 'pip', 'install', '-q', '--python', python, '-c', constraints)
    packages = [*besides] if extras is None else ['-e', f'{ROOT}[{extras}]', *besides]
    if mmcv:
        run(*install, 'torch', 'torchvision', *BUILD_TOOLS)
        packages.insert(0, mmcv_wheel(python, install, mmcv, pinned(constraints, mmcv)))
    run(*install, *packages)
    if mmcv:
        # Several packages bring one of OpenCV's builds, all in one folder: the one that needs no display comes last.
        run(*install, '--no-deps', '--reinstall', 'opencv-python-headless')
    stamp.write_text(state)
    print(f'{folder} is ready after {time.time() - start:.0f} s', flush=True)
    return venv


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('stack', choices=STACKS, nargs='?', default='onedl')
    try:
        setup(parser.parse_args().stack)
    except (SetupError, OSError) as error:
        print(f'setup_env: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
