"""Examine an installation: what does not work, why, and the command that mends it.

Imports nothing but the standard library, as whatever else is broken may be its subject; what must be imported to be
tried is tried by ``doctor_probes.py`` in processes of their own.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: Extra of setup.py -> import name -> distribution.
FAMILIES = {
    'onedl': dict(mmengine='onedl-mmengine', mmcv='onedl-mmcv', mmdet='onedl-mmdetection', mmseg='onedl-mmsegmentation',
                  mmpretrain='onedl-mmpretrain'),
    'openmmlab': dict(mmengine='mmengine', mmcv='mmcv', mmdet='mmdet', mmseg='mmsegmentation', mmpretrain='mmpretrain'),
}
TITLES = {'onedl': 'OneDL', 'openmmlab': 'classic OpenMMLab'}
NEEDED_FOR = {'mmcv': 'detectors and segmentors', 'mmdet': 'detectors', 'mmseg': 'segmentors',
              'mmpretrain': "mmdet's and mmseg's ConvNeXt, and text heads of mmdet"}
PIP = f'{shlex.quote(sys.executable)} -m pip'
OLD_NUMPY, OLD_SETUPTOOLS = f'{PIP} install "numpy<2"', f'{PIP} install "setuptools<81"'
NEW_PAIR = f'{PIP} uninstall -y torch torchvision; {PIP} install torch torchvision'
#: Seconds that a probe may take.
PATIENCE = 900


class Finding(NamedTuple):
    """One line of the report: what was looked at, whether it is wrong, and the command that mends it."""

    text: str
    wrong: bool = False
    command: str = ''


def installed(path=None):
    """Version of every installed distribution by its normalised name (``onedl-mmcv``); ``path`` as ``sys.path``."""
    found = {}
    for distribution in metadata.distributions(**({} if path is None else {'path': path})):
        # Of two in one place, or on several places, the first is the one that is imported.
        found.setdefault(normalise(distribution.metadata['Name'] or ''), distribution.version)
    return found


def normalise(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def family_of(found):
    """``onedl`` or ``openmmlab``, by the mmengine that is installed; None without one."""
    return next((family for family, names in FAMILIES.items() if names['mmengine'] in found), None)


def digits(version):
    """``2.4.0rc1+cpu`` -> (2, 4, 0), to be compared."""
    return tuple(int(part) for part in re.match(r'\d+(?:\.\d+)*', version).group().split('.'))


def satisfies(version, specifiers):
    """Whether ``2.3.6`` fits ``<3,>=2.0``; suffixes such as ``rc1`` and ``+cpu`` do not count."""
    for operator, bound in re.findall(r'(<=|>=|==|!=|<|>)\s*([\w.]+)', specifiers):
        width = max(len(digits(version)), len(digits(bound)))
        mine, limit = (digits(v) + (0,) * (width - len(digits(v))) for v in (version, bound))
        if not {'<': mine < limit, '<=': mine <= limit, '>': mine > limit, '>=': mine >= limit,
                '==': mine == limit, '!=': mine != limit}[operator]:
            return False
    return True


def install(family):
    """The command that installs a family over whatever is there; mmcv is compiled, about 8 minutes on 2 cores."""
    return (f'{PIP} install torch torchvision "setuptools<81" wheel ninja psutil && '
            f'{PIP} install --no-build-isolation -e "{ROOT}[{family}]"')


def compile_mmcv(family):
    """The command that puts mmcv with operators for the torch that is there."""
    name = FAMILIES[family or 'onedl']['mmcv']
    return (f'{PIP} uninstall -y mmcv mmcv-lite onedl-mmcv; {PIP} install "setuptools<81" wheel ninja psutil && '
            f'MMCV_WITH_OPS=1 {PIP} install --no-build-isolation --no-cache-dir --no-binary {name} {name}'
            + ('' if name.startswith('onedl') else '==2.1.0'))


def check_python(version=sys.version_info):
    text = f'Python {version[0]}.{version[1]}'
    if tuple(version[:2]) < (3, 10):
        return Finding(f'{text}: convnext_mm needs 3.10 or newer', True, 'make setup  # with a newer python3 on PATH')
    return Finding(text)


def check_families(found):
    """Versions of one family of distributions, whole, and not on top of the other."""
    present = {family: {n: d for n, d in names.items() if d in found} for family, names in FAMILIES.items()}
    if all(present.values()):
        # Their import names are the same, so the files of one lie over those of the other.
        both = [name for names in present.values() for name in names.values()]
        yield Finding(f'both families are installed on top of each other: {", ".join(both)}', True,
                      f'{PIP} uninstall -y {" ".join(both)}; {install("onedl")}')
        return
    if 'mmcv-lite' in found:
        yield Finding(f'mmcv-lite {found["mmcv-lite"]} is mmcv without the compiled operators that mmdet needs', True,
                      compile_mmcv(family_of(found)))
    family = family_of(found)
    if family is None:
        yield Finding('mmengine is not installed', True, install('onedl'))
        return
    for name, distribution in FAMILIES[family].items():
        if distribution in found:
            yield Finding(f'{distribution} {found[distribution]} ({TITLES[family]})')
        elif not (name == 'mmcv' and 'mmcv-lite' in found):
            yield Finding(f'{distribution} is not installed; {NEEDED_FOR[name]} need it')


def check_requirements(found, requirements):
    """Versions outside of what this package asks for (``setup.py``), and what is missing beside a toolbox."""
    family = family_of(found)
    toolbox = family and any(FAMILIES[family][name] in found for name in ('mmdet', 'mmseg'))
    for requirement in requirements:
        match = re.match(r'([\w.-]+)\s*\(?([^;)]*)\)?\s*(?:;.*extra == [\'"](\w+)[\'"])?', requirement)
        name, specifiers, extra = normalise(match[1]), match[2].strip(), match[3]
        if extra not in (None, family):
            continue
        if name in found and not satisfies(found[name], specifiers):
            why = ': mmdet imports parts of mmpretrain that newer ones break' if name == 'transformers' else ''
            yield Finding(f'{name} {found[name]} is not {name}{specifiers}{why}', True,
                          f'{PIP} install "{name}{specifiers}"')
        elif name not in found and (extra is None or toolbox and name not in FAMILIES[family].values()):
            yield Finding(f'{name} is not installed', True, f'{PIP} install "{name}{specifiers}"')


def check_mmcv_range(found, sources):
    """Bounds that the toolboxes assert on mmcv when they are imported.

    Args:
        found (dict): See ``installed``.
        sources (dict): Import name -> text of its ``__init__.py``.
    """
    family = family_of(found)
    version = family and found.get(FAMILIES[family]['mmcv'])
    for name, text in sources.items() if version else ():
        bounds = {key: re.search(rf"^mmcv_{key}\w*\s*=\s*'([^']+)'", text, re.M | re.I) for key in ('min', 'max')}
        if not all(bounds.values()):
            continue
        allowed = f'>={bounds["min"][1]},<{bounds["max"][1]}'
        if not satisfies(version, allowed):
            yield Finding(f'mmcv {version} is outside of what {name} takes, {allowed}', True, compile_mmcv(family))


def check_torchvision(found, requirements):
    """That torchvision was built for the torch that is there."""
    if not {'torch', 'torchvision'} <= found.keys():
        return
    wanted = next((r for r in requirements if re.match(r'torch\b', r)), '')
    labels = [found[name].partition('+')[2] for name in ('torch', 'torchvision')]
    if not satisfies(found['torch'], wanted) or labels[0] != labels[1]:
        yield Finding(f'torchvision {found["torchvision"]} and torch {found["torch"]} are of different builds'
                      + (f' (it wants {wanted})' if wanted else ''), True, NEW_PAIR)


def check_numpy(found):
    """That NumPy 2 is not beside a torch that was built before it."""
    if {'torch', 'numpy'} <= found.keys() and satisfies(found['numpy'], '>=2') and satisfies(found['torch'], '<2.3'):
        yield Finding(f'numpy {found["numpy"]} is too new for torch {found["torch"]}, which was built for NumPy 1',
                      True, OLD_NUMPY)


def check_setuptools(found, has_pkg_resources=None):
    """That ``pkg_resources`` is there, which the classic mmengine imports, and mmcv's build in both families."""
    if has_pkg_resources is None:
        has_pkg_resources = util.find_spec('pkg_resources') is not None
    if family_of(found) == 'openmmlab' and not has_pkg_resources:
        yield Finding(f'setuptools {found.get("setuptools", "(none)")} has no pkg_resources, which mmengine imports',
                      True, OLD_SETUPTOOLS)


#: What errors say -> what is wrong, and the command, or what makes it for a family; {name} is what the pattern found.
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
    (r"No module named '(?P<name>\w+)'", '{name} is not installed', f'{PIP} install {{name}}'),
)


def explain(error, family=None):
    """A ``Finding`` on what the text of an error says."""
    last = (error.strip().splitlines() or ['it ended without a message'])[-1]
    for pattern, text, command in KNOWN:
        match = re.search(pattern, error)
        if match:
            text, command = (part.replace('{name}', match.groupdict().get('name', ''))
                             for part in (text, command(family) if callable(command) else command))
            return Finding(f'{text} ({last})', True, command)
    return Finding(last, True)


def probes(found):
    """(name, what it tries) of the probes that this installation should pass, each of which builds on those before."""
    names = FAMILIES[family_of(found)] if family_of(found) else {}
    present = {name for name, distribution in names.items() if distribution in found}
    if 'mmcv-lite' in found:
        present.add('mmcv')
    yield 'torch', 'torch computes, on the GPU if there is one'
    if 'torchvision' in found:
        yield 'torchvision', 'operators of torchvision'
    if 'mmcv' in present:
        yield 'mmcv', 'operators of mmcv'
    if present & {'mmdet', 'mmseg', 'mmpretrain'}:
        yield 'toolboxes', 'imports of ' + ', '.join(sorted(present & {'mmdet', 'mmseg', 'mmpretrain'}))
    yield 'registry', 'convnext_mm.ConvNeXt from every scope'
    yield 'backbone', 'two training steps of a backbone with layer decay'
    for name, needs in (('detector', {'mmcv', 'mmdet'}), ('segmentor', {'mmcv', 'mmseg'})):
        if needs <= present and (ROOT / 'configs').is_dir():
            yield name, f'two training steps of a {name} on drawn shapes'


def run_probe(name):
    """What a probe has to say, and the text of its error; '' if it passed."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))}
    try:
        result = subprocess.run([sys.executable, str(Path(__file__).with_name('doctor_probes.py')), name], text=True,
                                capture_output=True, timeout=PATIENCE, env=environment, errors='replace')
    except subprocess.TimeoutExpired:
        return '', f'not done after {PATIENCE} s'
    if result.returncode < 0:
        return '', f'{result.stderr}\nthe process was killed by signal {-result.returncode}'
    # Before the last line stands what packages greet with.
    return result.stdout.rpartition('\n\n')[2].strip(), result.stderr if result.returncode else ''


def _requires(name):
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return None


def _sources():
    """Text of the ``__init__.py`` of each toolbox that is there, which is not imported for it."""
    specs = {name: util.find_spec(name) for name in ('mmdet', 'mmseg', 'mmpretrain')}
    return {name: Path(spec.origin).read_text() for name, spec in specs.items() if spec and spec.origin}


def examine():
    """Every ``Finding`` on this installation, the quick ones first."""
    found = installed()
    family = family_of(found)
    yield check_python()
    requirements = _requires('convnext_mm')
    if requirements is None:
        yield Finding('convnext_mm itself is not installed', True, f'{PIP} install --no-build-isolation -e "{ROOT}"')
    else:
        yield Finding(f'convnext_mm {found["convnext-mm"]}')
    for name in ('torch', 'torchvision', 'numpy', 'setuptools', 'transformers'):
        if name in found:
            yield Finding(f'{name} {found[name]}')
    yield from check_families(found)
    yield from check_requirements(found, requirements or ())
    yield from check_mmcv_range(found, _sources())
    yield from check_torchvision(found, _requires('torchvision') or ())
    yield from check_numpy(found)
    yield from check_setuptools(found)
    if shutil.which('nvidia-smi'):
        listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True)
        yield Finding(f'GPU: {" ".join(listed.stdout.split()) or "nvidia-smi lists none"}')
    failed = None
    for name, what in probes(found):
        if failed:
            yield Finding(f'not tried, as {failed} failed: {what}')
            continue
        said, error = run_probe(name)
        if error:
            failed, cause = name, explain(error, family)
            yield cause._replace(text=f'{what}: {cause.text}')
        else:
            yield Finding(what + (f': {said}' if said else ''))


def main():
    """Print the report as it grows; return 0 if all is well, else 1."""
    wrong, told = 0, set()
    print('Examining the installation; the steps of training take about a minute.', flush=True)
    for finding in examine():
        print(f'{"WRONG" if finding.wrong else "  "}  {finding.text}', flush=True)
        wrong += finding.wrong
        if finding.command and finding.command not in told:
            told.add(finding.command)
            print(f'       mend it: {finding.command}', flush=True)
    print(f'{wrong} things are wrong' if wrong > 1 else 'one thing is wrong' if wrong else 'all is well')
    return 1 if wrong else 0
