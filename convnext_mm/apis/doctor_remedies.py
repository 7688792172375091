"""Commands that mend an installation, and what the errors of a broken one mean.

Imports nothing but the standard library, as whatever else is broken may be the subject.
"""
import re
import shlex
import sys
from typing import NamedTuple

from convnext_mm.utils.installation import IN_CLONE, ROOT
from convnext_mm.utils.needed import OPENCV

#: Extra of setup.py -> import name -> distribution.
FAMILIES = {
    'onedl': dict(mmengine='onedl-mmengine', mmcv='onedl-mmcv', mmdet='onedl-mmdetection', mmseg='onedl-mmsegmentation',
                  mmpretrain='onedl-mmpretrain'),
    'openmmlab': dict(mmengine='mmengine', mmcv='mmcv', mmdet='mmdet', mmseg='mmsegmentation', mmpretrain='mmpretrain'),
}
PIP = f'{shlex.quote(sys.executable)} -m pip'
OLD_NUMPY, OLD_SETUPTOOLS = f'{PIP} install "numpy<2"', f'{PIP} install "setuptools<81"'
HEADLESS = f'{PIP} install opencv-python-headless'
NEW_PAIR = f'{PIP} uninstall -y torch torchvision; {PIP} install torch torchvision'


class Diagnosis(NamedTuple):
    """One line of the report: what was looked at, whether it is wrong, and the command that mends it."""

    text: str
    wrong: bool = False
    command: str = ''


def install(family):
    """Return the command that installs a family over whatever is there; it compiles mmcv, 8 minutes on 2 cores."""
    return (f'{PIP} install torch torchvision "setuptools<81" wheel ninja psutil && '
            f'{PIP} install --no-build-isolation {package(f"[{family}]")}')


def package(extra='', in_clone=IN_CLONE):
    """Return this package with an extra as pip takes it, by how it is installed: in a clone, or from a wheel."""
    return f'-e "{ROOT}{extra}"' if in_clone else f'"convnext_mm{extra}"'


def compile_mmcv(family):
    """Return the command that compiles mmcv with operators for the installed torch."""
    name = FAMILIES[family or 'onedl']['mmcv']
    return (f'{PIP} uninstall -y mmcv mmcv-lite onedl-mmcv; {PIP} install "setuptools<81" wheel ninja psutil && '
            f'MMCV_WITH_OPS=1 {PIP} install --no-build-isolation --no-cache-dir --no-binary {name} {name}'
            + ('' if name.startswith('onedl') else '==2.1.0'))


def keep_opencv(builds):
    """Return the command that puts one build of OpenCV in the place of several, with what any of them has."""
    kind = ('contrib-' if any('contrib' in build for build in builds) else '') + 'python'
    kind += '-headless' if any('headless' in build for build in builds) else ''
    return f'{PIP} uninstall -y {" ".join(OPENCV)}; {PIP} install opencv-{kind}'


#: Pattern of an error, what is wrong, and the command or a function of the family that returns it; {name} is what the
#: pattern found.
KNOWN = (
    (r'operator torchvision::\w+ does not exist|compiled with different CUDA|torchvision\S*: undefined symbol'
     r'|load custom C\+\+ ops', 'torchvision and torch are of different builds', NEW_PAIR),
    (r"No module named 'mmcv\._ext'|mmcv/_ext\S*: (?:undefined symbol|cannot open)",
     'mmcv has no compiled operators, or some for another torch', compile_mmcv),
    (r'[Nn]ot compiled with GPU support|implementation for device cuda:?\d* not found',
     'mmcv was compiled without CUDA', compile_mmcv),
    (r"No module named 'pkg_resources'", 'setuptools has no pkg_resources any more', OLD_SETUPTOOLS),
    (r'compiled using NumPy 1\.x|numpy\.core\.multiarray failed|numpy\.dtype size changed|_ARRAY_API not found'
     r'|Numpy is not available', 'NumPy 2 is beside something that was built for NumPy 1', OLD_NUMPY),
    (r"from 'transformers|No module named 'transformers", 'transformers is of a version that mmpretrain cannot use',
     lambda family: f'{PIP} install "transformers{"<4.50" if family == "openmmlab" else "<5"}"'),
    (r'MM(?:CV|Engine)==\S+ is used but incompatible', 'the versions of the toolboxes do not go together',
     lambda family: install(family or 'onedl')),
    (r'no kernel image is available|is not compatible with the current PyTorch',
     'this torch was not built for this GPU', NEW_PAIR),
    (r'built without CUDA', 'there is a GPU, but a torch for the CPU alone', NEW_PAIR),
    (r'driver .*(?:too old|insufficient)', "the GPU's driver is older than torch's CUDA",
     "update the GPU's driver, or install a torch for an older CUDA"),
    (r"No module named 'cv2'", 'OpenCV is not installed', HEADLESS),
    (r'libGL\S*: cannot open', "this build of OpenCV needs a display's libraries",
     keep_opencv(['opencv-python-headless'])),
    (r"No module named '(?P<name>\w+)'", '{name} is not installed', f'{PIP} install {{name}}'),
)


def explain(error, family=None):
    """Return a ``Diagnosis`` of the text of an error."""
    last = (error.strip().splitlines() or ['it ended without a message'])[-1]
    for pattern, text, command in KNOWN:
        match = re.search(pattern, error)
        if match:
            text, command = (part.replace('{name}', match.groupdict().get('name', ''))
                             for part in (text, command(family) if callable(command) else command))
            return Diagnosis(f'{text} ({last})', True, command)
    return Diagnosis(last, True)
