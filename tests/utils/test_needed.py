"""What is missing or too old is told in a line at the first use of a public name, of the registry or of a command."""
import os
import subprocess
import sys

import pytest

from convnext_mm.utils.needed import NEEDS, find_version
from tests.helpers.paths import ROOT

#: What is wrong -> the line that makes it so, and what is said.
BROKEN = {
    'no torch': ('sys.modules["torch"] = None', 'torch>=2.1, which is not installed: pip install "torch'),
    'old torch': ('make_old("torch", "2.0.1+cu117")', 'torch>=2.1, and 2.0.1+cu117 is installed: pip'),
    'no mmengine': ('sys.modules["mmengine"] = None', 'mmengine>=0.10.3, which is not installed: pip '
                                                      'install "convnext_mm[onedl]"'),
    'old mmengine': ('make_old("mmengine", "0.9.1"); make_old("onedl_mmengine", "0.9.1")',
                     'mmengine>=0.10.3, and 0.9.1 is installed: pip install'),
    'no OpenCV': ('sys.modules["cv2"] = None', 'cv2, which is not installed: pip install opencv-python-'),
}
#: A first use, and how its error is caught.
USES = {
    'class': 'from convnext_mm import ConvNeXt',
    'function': 'from convnext_mm import swap_backbone',
    'registry': 'import convnext_mm.registry',
    'scope': 'from mmengine.registry import MODELS; MODELS.get("convnext_mm.ConvNeXt")',
    'hook': 'from mmengine.registry import HOOKS; HOOKS.get("convnext_mm.SafeCheckpointHook")',
}


def run(folder, broken, program):
    """Run a program where something is missing or too old."""
    lines = ['import os, pathlib, sys', 'def make_old(name, version):',
             f'    folder = pathlib.Path({str(folder)!r}, f"{{name}}-{{version}}.dist-info")', '    folder.mkdir()',
             '    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")',
             broken, program]
    return subprocess.run([sys.executable, '-c', '\n'.join(lines)], capture_output=True, text=True, cwd=folder,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(folder), str(ROOT)])})


@pytest.mark.parametrize('use', USES)
@pytest.mark.parametrize('broken', BROKEN)
def test_the_first_use_says_what_to_install(broken, use, tmp_path):
    """mmengine hides an ImportError of a scope's registry, so that one is another error."""
    if 'mmengine.registry' in USES[use] and broken == 'no mmengine':
        return
    line, said = BROKEN[broken]
    result = run(tmp_path, line, USES[use])
    assert result.stderr.splitlines()[-1].partition(': ')[2].startswith(f'convnext_mm needs {said}'), result.stderr
    kind = 'NotInstalledError' if 'from convnext_mm' in USES[use] else 'UserError'
    assert kind in result.stderr.splitlines()[-1].partition(': ')[0]


@pytest.mark.parametrize('broken', BROKEN)
def test_a_command_says_what_to_install(broken, tmp_path):
    (tmp_path / 'a.py').write_text('')
    line, said = BROKEN[broken]
    result = run(tmp_path, line, 'from convnext_mm.apis.cli import command_line\n'
                                 'sys.exit(command_line(["train", "a.py"]))')
    assert result.returncode == 2
    assert result.stderr.startswith(f'convnext-mm train: error: convnext_mm needs {said}')
    assert result.stderr.count('\n') == 1


def test_what_needs_nothing_works_without(tmp_path):
    blocked = '; '.join(line for line, _ in BROKEN.values() if 'None' in line)
    result = run(tmp_path, blocked, 'import convnext_mm; print(len(convnext_mm.ARCHS), '
                                    'convnext_mm.config("cascade/convnext_t_3x.py"))')
    assert result.stdout.endswith('convnext_t_3x.py\n'), result.stderr


def test_this_environment_has_what_is_needed():
    for need in NEEDS:
        assert any(map(find_version, need.distributions)), need
    assert find_version('no-such-distribution') is None
