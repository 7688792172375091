"""Files of one process do not stand in each other's way."""
import subprocess
import sys
from textwrap import dedent

import pytest

from tests.helpers.paths import ROOT

#: A handler of signals runs on the stack that ``faulthandler`` or a runtime gave the process.
PROGRAM = dedent("""
    import faulthandler, gc, pathlib, signal, subprocess, sys, torch
    from convnext_mm.export.formats import Graph, find_format
    faulthandler.enable()
    signal.signal(signal.SIGCHLD, lambda *arguments: print('signal'))
    files = [pathlib.Path(sys.argv[1]) / name for name in ('a.xml', 'b.xml')]
    form = find_format(files[0])
    for file in files:
        form.write(Graph(torch.nn.Conv2d(3, 2, 3), torch.zeros(1, 3, 64, 64), False, ('y',)), file, {})
    runs = [form.open(file) for file in files]
    while runs:
        runs.pop(0)
        gc.collect()
    subprocess.run([sys.executable, '-c', ''])
    """)


def test_a_process_goes_on_after_its_files_of_openvino(tmp_path):
    for package in ('onnx', 'openvino'):
        pytest.importorskip(package, reason='the extra "export" is not installed')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', PROGRAM, tmp_path], cwd=ROOT, capture_output=True,
                          text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ['signal']), done.stderr
