"""Checks of an installation that the versions of its distributions alone decide.

Imports nothing but the standard library, as whatever else is broken may be the subject.
"""
import re
import sys
from importlib import metadata, util

from convnext_mm.apis.doctor_remedies import (
    FAMILIES,
    NEW_PAIR,
    OLD_NUMPY,
    OLD_SETUPTOOLS,
    PIP,
    Diagnosis,
    compile_mmcv,
    install,
)

TITLES = {'onedl': 'OneDL', 'openmmlab': 'classic OpenMMLab'}
NEEDED_FOR = {'mmcv': 'detectors and segmentors', 'mmdet': 'detectors', 'mmseg': 'segmentors',
              'mmpretrain': "mmdet's and mmseg's ConvNeXt, and text heads of mmdet"}


def installed(path=None):
    """Return the version of every distribution by its normalised name (``onedl-mmcv``); ``path`` as ``sys.path``."""
    found = {}
    for distribution in metadata.distributions(**({} if path is None else {'path': path})):
        # Of two of one name, the first is the one that is imported.
        found.setdefault(normalise(distribution.metadata['Name'] or ''), distribution.version)
    return found


def normalise(name):
    """Return the name of a distribution as pip compares it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def family_of(found):
    """Return ``onedl`` or ``openmmlab``, by the mmengine that is installed; None without one."""
    return next((family for family, names in FAMILIES.items() if names['mmengine'] in found), None)


def digits(version):
    """Return the numbers of a version, to compare them: (2, 4, 0) for ``2.4.0rc1+cpu``."""
    return tuple(int(part) for part in re.match(r'\d+(?:\.\d+)*', version).group().split('.'))


def satisfies(version, specifiers):
    """Return whether ``2.3.6`` fits ``<3,>=2.0``; suffixes such as ``rc1`` and ``+cpu`` do not count."""
    for operator, bound in re.findall(r'(<=|>=|==|!=|<|>)\s*([\w.]+)', specifiers):
        width = max(len(digits(version)), len(digits(bound)))
        mine, limit = (digits(v) + (0,) * (width - len(digits(v))) for v in (version, bound))
        if not {'<': mine < limit, '<=': mine <= limit, '>': mine > limit, '>=': mine >= limit,
                '==': mine == limit, '!=': mine != limit}[operator]:
            return False
    return True


def check_python(version=sys.version_info):
    """Return a ``Diagnosis`` of the version of Python."""
    text = f'Python {version[0]}.{version[1]}'
    if tuple(version[:2]) < (3, 10):
        return Diagnosis(f'{text}: convnext_mm needs 3.10 or newer', True, 'make setup  # with a newer python3 on PATH')
    return Diagnosis(text)


def check_versions(found, requirements, sources, vision, has_pkg_resources=None):
    """Yield a ``Diagnosis`` of everything that versions alone tell.

    Args:
        found (dict): See ``installed``.
        requirements (Iterable[str]): Of this package.
        sources (dict): Import name of a toolbox -> text of its ``__init__.py``.
        vision (Iterable[str]): Requirements of torchvision.
        has_pkg_resources (bool, optional): Defaults to whether this interpreter has them.
    """
    yield from check_families(found)
    yield from check_requirements(found, requirements)
    yield from check_mmcv_range(found, sources)
    yield from check_torchvision(found, vision)
    yield from check_numpy(found)
    yield from check_setuptools(found, has_pkg_resources)


def check_families(found):
    """Check that one family of distributions is complete, and that the other is not installed over it."""
    present = {family: {n: d for n, d in names.items() if d in found} for family, names in FAMILIES.items()}
    if all(present.values()):
        # Their import names are the same, so the files of one lie over those of the other.
        both = [name for names in present.values() for name in names.values()]
        yield Diagnosis(f'both families are installed on top of each other: {", ".join(both)}', True,
                      f'{PIP} uninstall -y {" ".join(both)}; {install("onedl")}')
        return
    if 'mmcv-lite' in found:
        yield Diagnosis(f'mmcv-lite {found["mmcv-lite"]} is mmcv without the compiled operators that mmdet needs', True,
                      compile_mmcv(family_of(found)))
    family = family_of(found)
    if family is None:
        yield Diagnosis('mmengine is not installed', True, install('onedl'))
        return
    for name, distribution in FAMILIES[family].items():
        if distribution in found:
            yield Diagnosis(f'{distribution} {found[distribution]} ({TITLES[family]})')
        elif not (name == 'mmcv' and 'mmcv-lite' in found):
            yield Diagnosis(f'{distribution} is not installed; {NEEDED_FOR[name]} need it')


def check_requirements(found, requirements):
    """Check that the versions are those that ``setup.py`` asks for, and that nothing is missing beside a toolbox."""
    family = family_of(found)
    toolbox = family and any(FAMILIES[family][name] in found for name in ('mmdet', 'mmseg'))
    for requirement in requirements:
        match = re.match(r'([\w.-]+)\s*\(?([^;)]*)\)?\s*(?:;.*extra == [\'"](\w+)[\'"])?', requirement)
        name, specifiers, extra = normalise(match[1]), match[2].strip(), match[3]
        if extra not in (None, family):
            continue
        if name in found and not satisfies(found[name], specifiers):
            why = ': mmdet imports parts of mmpretrain that newer ones break' if name == 'transformers' else ''
            yield Diagnosis(f'{name} {found[name]} is not {name}{specifiers}{why}', True,
                          f'{PIP} install "{name}{specifiers}"')
        elif name not in found and (extra is None or toolbox and name not in FAMILIES[family].values()):
            yield Diagnosis(f'{name} is not installed', True, f'{PIP} install "{name}{specifiers}"')


def check_mmcv_range(found, sources):
    """Check the bounds on mmcv that the toolboxes assert when they are imported."""
    family = family_of(found)
    version = family and found.get(FAMILIES[family]['mmcv'])
    for name, text in sources.items() if version else ():
        bounds = {key: re.search(rf"^mmcv_{key}\w*\s*=\s*'([^']+)'", text, re.M | re.I) for key in ('min', 'max')}
        if not all(bounds.values()):
            continue
        allowed = f'>={bounds["min"][1]},<{bounds["max"][1]}'
        if not satisfies(version, allowed):
            yield Diagnosis(f'mmcv {version} is outside of what {name} takes, {allowed}', True, compile_mmcv(family))


def check_torchvision(found, requirements):
    """Check that torchvision was built for the installed torch."""
    if not {'torch', 'torchvision'} <= found.keys():
        return
    wanted = next((r for r in requirements if re.match(r'torch\b', r)), '')
    labels = [found[name].partition('+')[2] for name in ('torch', 'torchvision')]
    if not satisfies(found['torch'], wanted) or labels[0] != labels[1]:
        yield Diagnosis(f'torchvision {found["torchvision"]} and torch {found["torch"]} are of different builds'
                      + (f' (it wants {wanted})' if wanted else ''), True, NEW_PAIR)


def check_numpy(found):
    """Check that NumPy 2 is not beside a torch that was built before it."""
    if {'torch', 'numpy'} <= found.keys() and satisfies(found['numpy'], '>=2') and satisfies(found['torch'], '<2.3'):
        yield Diagnosis(f'numpy {found["numpy"]} is too new for torch {found["torch"]}, which was built for NumPy 1',
                      True, OLD_NUMPY)


def check_setuptools(found, has_pkg_resources=None):
    """Check that ``pkg_resources`` is there, which the classic mmengine imports."""
    if has_pkg_resources is None:
        has_pkg_resources = util.find_spec('pkg_resources') is not None
    if family_of(found) == 'openmmlab' and not has_pkg_resources:
        yield Diagnosis(f'setuptools {found.get("setuptools", "(none)")} has no pkg_resources, which mmengine imports',
                      True, OLD_SETUPTOOLS)
