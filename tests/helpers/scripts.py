"""Run scripts, such as mm's own tools, each in a fork of one process that has imported what they share.

The process has not imported this package: what a script needs of it, mm must find by itself.
"""
import glob
import importlib
import json
import os
import runpy
import subprocess
import sys
import traceback

from tests.helpers.paths import ROOT

SHARED = ('torch', 'mmcv.ops', *(f'{toolbox}.{part}' for toolbox in ('mmdet', 'mmseg') for part in (
    'apis', 'datasets', 'evaluation', 'models', 'visualization')))


def run_scripts(folder, commands):
    """Run scripts one after the other.

    Args:
        folder (Path): Where they run.
        commands (dict[str, list]): ``{name: [script, argument, ...]}``. A name ``a/b`` runs in the folder ``a``. An
            argument with a ``*`` is the last file that fits.

    Returns:
        dict[str, tuple[int, str]]: Exit code and output by name.
    """
    (folder / 'commands.json').write_text(json.dumps({name: [*map(str, argv)] for name, argv in commands.items()}))
    environment = dict(os.environ, MPLBACKEND='Agg', OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    done = subprocess.run([sys.executable, '-m', 'tests.helpers.scripts', folder], cwd=ROOT, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    codes = json.loads((folder / 'codes.json').read_text())
    return {name: (code, (folder / f'{name}.log').read_text(errors='replace')) for name, code in codes.items()}


def _run(argv, log):
    """Run a script in a fork, beside its log, and return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output, code = os.open(log, os.O_WRONLY | os.O_CREAT), 1
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(os.path.dirname(log))
    try:
        sys.argv = [sorted(glob.glob(argument))[-1] if '*' in argument else argument for argument in argv]
        runpy.run_path(sys.argv[0], run_name='__main__')
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(folder):
    for name in SHARED:
        importlib.import_module(name)
    loaded = sorted(name for name in sys.modules if name.partition('.')[0] == 'convnext_mm')
    assert not loaded, loaded
    with open(f'{folder}/commands.json') as file:
        commands = json.load(file)
    codes = {name: _run(argv, f'{folder}/{name}.log') for name, argv in commands.items()}
    with open(f'{folder}/codes.json', 'w') as file:
        json.dump(codes, file)


if __name__ == '__main__':
    main(os.path.abspath(sys.argv[1]))
