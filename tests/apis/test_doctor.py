"""The doctor knows the common broken installations, by their versions or by what fails, and says how to mend them."""
import os
import re
import subprocess
import sys

import pytest

from convnext_mm.apis import doctor
from convnext_mm.apis.doctor_remedies import explain, package
from convnext_mm.apis.doctor_versions import check_python, check_versions, installed
from tests.helpers.paths import ROOT

ONEDL = {'torch': '2.13.0', 'torchvision': '0.28.0', 'numpy': '2.4.6', 'setuptools': '80.10.2',
         'transformers': '4.57.6', 'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6', 'onedl-mmdetection': '3.5.1',
         'onedl-mmsegmentation': '1.4.2', 'onedl-mmpretrain': '1.3.6', 'pycocotools': '2.0.11',
         'opencv-python': '5.0.0.93', 'opencv-python-headless': '5.0.0.93'}
CLASSIC = {'torch': '2.13.0', 'torchvision': '0.28.0', 'numpy': '2.2.6', 'setuptools': '80.10.2',
           'transformers': '4.49.0', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0',
           'mmsegmentation': '1.2.2', 'mmpretrain': '1.2.0', 'pycocotools': '2.0.11', 'opencv-python': '5.0.0.93'}
ALONE = {'torch': '2.1.2', 'mmengine': '0.10.7', 'numpy': '1.26.4', 'setuptools': '65.5.0',
         'opencv-contrib-python': '4.11.0.86'}
REQUIRES = ['onedl-mmcv>=2.3; extra == "onedl"', 'transformers<5; extra == "onedl"',
            'pycocotools; extra == "onedl"', 'mmcv<2.2,>=2.0.0; extra == "openmmlab"',
            'transformers<4.50; extra == "openmmlab"', 'pycocotools; extra == "openmmlab"', 'pytest; extra == "test"']
VISION = ['numpy', 'torch (==2.13.0)', 'pillow!=8.3.*,>=5.3.0']
SOURCES = {'mmdet': "mmcv_minimum_version = '2.0.0rc4'\nmmcv_maximum_version = '2.2.0'\n",
           'mmseg': "MMCV_MIN = '2.0.0rc4'\nMMCV_MAX = '2.2.0'\n"}


def find_wrong(found, pkg_resources, sources):
    return [finding for finding in check_versions(found, REQUIRES, dict(sources), VISION, pkg_resources)
            if finding.wrong]


@pytest.mark.parametrize(('found', 'sources'), [(ONEDL, {}), (CLASSIC, SOURCES), (ALONE, {})])
def test_nothing_is_wrong(found, sources):
    assert not find_wrong(found, True, sources)


def without(found, *names):
    return {name: version for name, version in found.items() if name not in names}


BROKEN = [  # what is installed, pkg_resources, sources; parts of what is said and of the command
    ({**CLASSIC, **ONEDL}, True, {}, 'both families.*on top of each other: onedl-mmengine.*mmpretrain',
     'uninstall -y .*mmdet'),
    ({**without(CLASSIC, 'mmcv'), 'mmcv-lite': '2.1.0'}, True, {}, 'mmcv-lite 2.1.0 is mmcv without',
     'uninstall -y mmcv mmcv-lite.*MMCV_WITH_OPS=1'),
    ({**CLASSIC, 'mmcv': '2.2.0'}, True, SOURCES,
     r'mmcv 2\.2\.0 is outside of what mmdet takes, >=2\.0\.0rc4,<2\.2\.0', r'mmcv==2\.1\.0'),
    ({**CLASSIC, 'mmcv': '2.2.0'}, True, {}, r'mmcv 2\.2\.0 is not mmcv<2\.2,>=2\.0\.0', r'install "mmcv<2\.2'),
    ({**CLASSIC, 'transformers': '4.57.6'}, True, {}, r'transformers 4\.57\.6 is not transformers<4\.50',
     r'install "transformers<4\.50"'),
    ({**ONEDL, 'transformers': '5.0.0'}, True, {}, r'transformers 5\.0\.0 is not transformers<5',
     'install "transformers<5"'),
    ({**CLASSIC, 'setuptools': '82.0.0'}, False, {}, 'setuptools 82.0.0 has no pkg_resources',
     'install "setuptools<81"'),
    ({**ONEDL, 'torchvision': '0.28.0+cpu'}, True, {},
     r'torchvision 0\.28\.0\+cpu and torch 2\.13\.0 are of different builds', 'torch torchvision'),
    ({**ONEDL, 'torch': '2.12.1'}, True, {}, 'are of different builds.*it wants torch', 'torch torchvision'),
    ({**ALONE, 'numpy': '2.0.0'}, True, {}, 'numpy 2.0.0 is too new for torch 2.1.2', 'install "numpy<2"'),
    ({**ALONE, 'torch': '2.0.1'}, True, {}, r'torch 2\.0\.1 is not torch>=2\.1', r'install "torch>=2\.1"'),
    (without(ALONE, 'torch'), True, {}, 'torch is not installed', r'install "torch>=2\.1"'),
    (without(ONEDL, 'pycocotools'), True, {}, 'pycocotools is not installed', 'install "pycocotools"'),
    ({**ALONE, 'mmengine': '0.9.1'}, True, {}, r'mmengine 0\.9\.1 is not mmengine>=0\.10\.3', 'mmengine>=0.10.3'),
    (without(ALONE, 'opencv-contrib-python'), True, {}, 'cv2 is not installed', 'install opencv-python-headless$'),
    ({**ONEDL, 'opencv-python': '4.12.0.88'}, True, {},
     r'on top of each other: opencv-python 4\.12\.0\.88, opencv-python-headless 5\.0\.0\.93',
     'uninstall -y opencv-python .*; .* install opencv-python-headless$'),
    ({**ALONE, 'opencv-python': '5.0.0.93'}, True, {}, 'opencv-contrib-python 4.11', 'install opencv-contrib-python$'),
    (without(ALONE, 'mmengine'), True, {}, 'mmengine is not installed', r'convnext_mm.*\[onedl\]|\[onedl\]'),
]


@pytest.mark.parametrize(('found', 'pkg_resources', 'sources', 'said', 'command'), BROKEN)
def test_broken_versions(found, pkg_resources, sources, said, command):
    wrong = find_wrong(found, pkg_resources, sources)
    assert wrong
    assert any(re.search(said, finding.text) and re.search(command, finding.command) for finding in wrong), wrong


ERRORS = [  # the end of an error, what it means, part of the command
    ('RuntimeError: operator torchvision::nms does not exist', 'torchvision and torch are of different builds',
     'torch torchvision'),
    ('RuntimeError: Detected that PyTorch and torchvision were compiled with different CUDA major versions.',
     'different builds', 'torch torchvision'),
    ("ModuleNotFoundError: No module named 'mmcv._ext'", 'mmcv has no compiled operators', 'MMCV_WITH_OPS=1'),
    ('ImportError: /site-packages/mmcv/_ext.cpython-311.so: undefined symbol: _ZN3c10', 'for another torch',
     'no-build-isolation'),
    ('RuntimeError: nms_impl: implementation for device cuda:0 not found.', 'compiled without CUDA', 'mmcv'),
    ("ModuleNotFoundError: No module named 'pkg_resources'", 'setuptools', '"setuptools<81"'),
    ('A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.0.0\nImportError: x', 'NumPy 2 is beside',
     '"numpy<2"'),
    ('ValueError: numpy.dtype size changed, may indicate binary incompatibility.', 'NumPy 2 is beside', '"numpy<2"'),
    ('RuntimeError: Numpy is not available', 'NumPy 2 is beside', '"numpy<2"'),
    ("ImportError: cannot import name 'apply_chunking_to_forward' from 'transformers.modeling_utils' (/x.py)",
     'transformers', '"transformers<4.50"'),
    ('AssertionError: MMCV==2.3.6 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.',
     'do not go together', '[openmmlab]'),
    ('RuntimeError: CUDA error: no kernel image is available for execution on the device', 'not built for this GPU',
     'torch'),
    ('RuntimeError: torch was built without CUDA', 'a torch for the CPU alone', 'torch'),
    ('RuntimeError: The NVIDIA driver on your system is too old (found version 11040).', 'driver is older', 'driver'),
    ("ModuleNotFoundError: No module named 'cv2'", 'OpenCV is not installed', 'install opencv-python-headless'),
    ('ImportError: libGL.so.1: cannot open shared object file: No such file or directory', "a display's libraries",
     'install opencv-python-headless'),
    ("ModuleNotFoundError: No module named 'ftfy'", 'ftfy is not installed', 'install ftfy'),
    ('KeyError: 3', 'KeyError: 3', ''),
    ('', 'without a message', ''),
]


@pytest.mark.parametrize(('error', 'said', 'command'), ERRORS)
def test_errors_are_explained(error, said, command):
    finding = explain(f'Traceback (most recent call last):\n  File "x"\n{error}' if error else '', 'openmmlab')
    assert finding.wrong
    assert said in finding.text
    assert command in finding.command
    assert (error.splitlines() or [''])[-1] in finding.text


def test_advice_goes_by_how_the_package_is_installed():
    assert package('[onedl]', in_clone=True) == f'-e "{ROOT}[onedl]"'
    assert package('[onedl]', in_clone=False) == '"convnext_mm[onedl]"'
    assert f'-e "{ROOT}[' in explain('MMCV==2.3.6 is used but incompatible').command


def test_old_python():
    assert check_python((3, 9, 1)).wrong
    assert not check_python((3, 10, 0)).wrong


def fake(folder, distribution, version, package=None, source=''):
    """A distribution, and a package that does ``source`` when it is imported."""
    info = folder / f'{distribution.replace("-", "_")}-{version}.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n')
    if package:
        (folder / package).mkdir()
        (folder / package / '__init__.py').write_text(source)


def test_distributions_are_found(tmp_path):
    fake(tmp_path, 'OneDL_mmcv', '2.3.6')
    assert installed([str(tmp_path)]) == {'onedl-mmcv': '2.3.6'}


@pytest.mark.parametrize(('found', 'models'), [
    (ALONE, set()), (ONEDL, {'detector', 'segmentor'}), ({**ALONE, 'timm': '1.0.31'}, set()),
    ({**ONEDL, 'timm': '1.0.31'}, {'detector', 'segmentor', 'classifier'}),
    ({**without(CLASSIC, 'mmdet'), 'timm': '1.0.31'}, {'segmentor', 'classifier'})])
def test_models_of_what_is_installed_are_trained(found, models):
    assert {name for name, _ in doctor.probes(found)} & {'detector', 'segmentor', 'classifier'} == models


def call(site):
    return subprocess.run([sys.executable, str(ROOT / 'tools' / 'doctor.py')], capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(site), str(ROOT)])})


@pytest.mark.parametrize(('error', 'said'), [
    ("ModuleNotFoundError(\"No module named 'torch'\")", 'torch is not installed'),
    ("ImportError('libcudart.so.13: cannot open shared object file')", 'libcudart.so.13: cannot open')])
def test_it_runs_where_torch_does_not(tmp_path, error, said):
    """Whatever is broken below it, the doctor says so, tells the rest, and ends with code 1 and no traceback."""
    fake(tmp_path, 'torch', '2.13.0', 'torch', f'raise {error}')
    fake(tmp_path, 'mmcv-lite', '2.1.0')
    result = call(tmp_path)
    assert result.returncode == 1, result.stderr
    assert result.stderr == ''
    lines = result.stdout.splitlines()
    assert any(line.startswith('WRONG') and said in line for line in lines)
    assert any('mmcv-lite 2.1.0 is mmcv without the compiled operators' in line for line in lines)
    assert any('not tried, as torch failed: two training steps of a backbone' in line for line in lines)
    assert lines[-1].endswith('things are wrong')
    assert any(line.lstrip().startswith('mend it: ') for line in lines)


def test_it_runs_where_nothing_is_installed(tmp_path):
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(tmp_path)], check=True)
    result = subprocess.run([str(tmp_path / 'bin' / 'python'), str(ROOT / 'tools' / 'doctor.py')], capture_output=True,
                            text=True, cwd=tmp_path, env={'PATH': os.environ['PATH']})
    assert (result.returncode, result.stderr) == (1, '')
    for said in ('convnext_mm itself', 'mmengine', 'torch computes, on the GPU if there is one: numpy'):
        assert f'WRONG  {said} is not installed' in result.stdout


@pytest.mark.long
def test_this_installation(monkeypatch, capsys, size):
    """The probes that are quick; all of them with --long."""
    every = list(doctor.probes(installed()))
    chosen = size([probe for probe in every if probe[0] in ('torch', 'torchvision', 'backbone')], every)
    monkeypatch.setattr(doctor, 'probes', lambda found: chosen)
    assert doctor.main(None) == 0, capsys.readouterr().out
    printed = capsys.readouterr().out
    assert 'two training steps of a backbone with layer decay' in printed
    assert printed.splitlines()[-1] == 'all is well'
    assert 'WRONG' not in printed


def test_a_probe_that_dies(monkeypatch):
    monkeypatch.setattr(doctor, 'PROBES', 'convnext_mm.version')
    assert doctor.run_probe('torch') == ('', ''), 'a process that says nothing'
    died = subprocess.CompletedProcess([], -11, '', 'half a line')
    monkeypatch.setattr(doctor.subprocess, 'run', lambda *_, **__: died)
    assert doctor.run_probe('torch')[1].endswith('the process was killed by signal 11')
