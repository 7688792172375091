"""What comes before the first image: importing, building and loading, each in a process of its own."""
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from convnext_mm.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
_IMPORT = """
import json, time, torch, mmengine
start = time.perf_counter()
import convnext_mm
package = time.perf_counter()
convnext_mm.ConvNeXt
print(json.dumps([package - start, time.perf_counter() - package]))
"""
_BUILD = """
import time, torch
from convnext_mm import ConvNeXt
start = time.perf_counter()
ConvNeXt('tiny')
print(time.perf_counter() - start)
"""
#: Looks at the memory every few milliseconds: the kernel keeps a peak of all resident pages, but none of a process's
#: own. Pages of the file are resident too, though they are the cache's and no copy.
_LOAD = """
import json, sys, threading, time
import torch
from convnext_mm import ConvNeXt
from convnext_mm.checkpoint.fit import load_pretrained
from measure import process_bytes

def own():
    return process_bytes('RssAnon', 'VmRSS')

def watch():
    while not done:
        for i, now in enumerate(own()):
            peak[i] = max(peak[i], now)
        time.sleep(.002)

arch, path = sys.argv[1:]
model = ConvNeXt(arch)
for parameter in model.parameters():
    parameter.data.fill_(1.)
before, done = own(), False
peak = list(before)
watcher = threading.Thread(target=watch)
watcher.start()
start = time.perf_counter()
load_pretrained(model, path)
seconds = time.perf_counter() - start
done = True
watcher.join()
print(json.dumps(dict(model=sum(p.numel() * p.element_size() for p in model.parameters()), seconds=seconds,
                      growth=peak[0] - before[0], growth_with_file=peak[1] - before[1])))
"""


def child(code, *arguments):
    """Run some code in a process of its own that finds this package and this folder; return the last line it printed.

    Raises:
        UserError: It failed, with the last line of its error.
    """
    paths = [str(ROOT), str(ROOT / 'benchmarks')]
    done = subprocess.run([sys.executable, '-c', f'import sys\nsys.path[:0] = {paths!r}\n{code}', *arguments],
                          capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'a measurement in another process ended with exit code {done.returncode}: '
                        f'{(done.stderr.strip().splitlines() or [""])[-1]}')
    return done.stdout.strip().splitlines()[-1]


def write_checkpoint(arch, path):
    """Write a file of a backbone's random weights, as training saves them."""
    from convnext_mm import ConvNeXt
    torch.save({'state_dict': ConvNeXt(arch).state_dict(), 'meta': {}}, path)


def measure(quick=False, progress=lambda text: None):
    """Measure the seconds of import and construction, and the memory that loading takes.

    Args:
        quick (bool): Fewer processes, and a smaller checkpoint. Defaults to False.
        progress (Callable): Called with what comes next.

    Returns:
        dict: ``import_seconds`` beyond torch and mmengine, ``class_seconds`` of the backbone beyond that,
        ``build_seconds`` of ``tiny``, and ``load``: the bytes of the ``model``, the ``growth`` of the process's own
        memory while it loaded, the same with pages of the file, and ``seconds``.
    """
    times, arch = (1, 'atto') if quick else (5, 'xlarge')
    progress('import')
    package, backbone = map(statistics.median, zip(*(json.loads(child(_IMPORT)) for _ in range(times))))
    results = dict(import_seconds=package, class_seconds=backbone)
    progress('construction')
    results['build_seconds'] = statistics.median(float(child(_BUILD)) for _ in range(times))
    progress(f'loading {arch}')
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/checkpoint.pth'
        child(f'import startup\nstartup.write_checkpoint({arch!r}, {path!r})\nprint({arch!r})')
        results['load'] = dict(arch=arch, **json.loads(child(_LOAD, arch, path)))
    return results
