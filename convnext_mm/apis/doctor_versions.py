"""Checks of an installation that the versions of its distributions alone decide.

Imports nothing but the standard library, as whatever else is broken may be the subject.
"""
import re
import sys
from importlib import metadata, util

from convnext_mm.apis.doctor_remedies import (
    FAMILIES,
    HEADLESS,
    NEW_PAIR,
    OLD_NUMPY,
    OLD_SETUPTOOLS,
    PIP,
    Diagnosis,
    compile_mmcv,
    install,
    keep_opencv,
)
from convnext_mm.utils.installation import IN_CLONE
from convnext_mm.utils.needed import NEEDS, OPENCV
from convnext_mm.utils.versions import satisfies

TITLES = {'onedl': 'OneDL', 'openmmlab': 'classic OpenMMLab'}
NEEDED_FOR = {'mmcv': 'detectors and segmentors', 'mmdet': 'detectors', 'mmseg': 'segmentors',
              'mmpretrain': "classifiers, mmdet's and mmseg's ConvNeXt, and text heads of mmdet"}


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


def check_python(version=sys.version_info):
    """Return a ``Diagnosis`` of the version of Python."""
    text = f'Python {version[0]}.{version[1]}'
    if tuple(version[:2]) < (3, 10):
        return Diagnosis(f'{text}: convnext_mm needs 3.10 or newer', True,
                         f'{"make setup" if IN_CLONE else "pip install convnext_mm"}  # with a newer python3')
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
    yield from check_needs(found)
    yield from check_opencv(found)
    yield from check_families(found)
    yield from check_requirements(found, requirements)
    yield from check_mmcv_range(found, sources)
    yield from check_torchvision(found, vision)
    yield from check_numpy(found)
    yield from check_setuptools(found, has_pkg_resources)


def check_needs(found):
    """Check that what everything needs is there, in a version that works."""
    missing = {'torch': f'{PIP} install "torch{NEEDS[0].versions}"', 'mmengine': install('onedl'), 'cv2': HEADLESS}
    for need in NEEDS:
        name = next((name for name in need.distributions if name in found), None)
        if name is None:
            yield Diagnosis(f'{need.package} is not installed', True, missing[need.package])
        elif not satisfies(found[name], need.versions):
            yield Diagnosis(f'{name} {found[name]} is not {need.package}{need.versions}', True,
                            f'{PIP} install "{name}{need.versions}"')


def check_opencv(found):
    """Check that OpenCV was installed once: all its builds lie in one folder, over each other."""
    builds = [f'{name} {found[name]}' for name in OPENCV if name in found]
    if len({found[name] for name in OPENCV if name in found}) > 1:
        yield Diagnosis(f'builds of OpenCV of different versions are installed on top of each other: '
                        f'{", ".join(builds)}', True, keep_opencv(builds))
    elif builds:
        yield Diagnosis(', '.join(builds) + (' (one folder: the last that was installed is the one in use)'
                                             if len(builds) > 1 else ''))


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
    for name, distribution in FAMILIES[family].items() if family else ():
        if distribution in found:
            yield Diagnosis(f'{distribution} {found[distribution]} ({TITLES[family]})')
        elif not (name == 'mmcv' and 'mmcv-lite' in found):
            yield Diagnosis(f'{distribution} is not installed; {NEEDED_FOR[name]} need it')


def check_requirements(found, requirements):
    """Check that the versions are those that ``setup.py`` asks for, and that nothing is missing beside a toolbox."""
    family = family_of(found)
    toolbox = family is not None and any(FAMILIES[family][name] in found for name in ('mmdet', 'mmseg'))
    for requirement in requirements:
        match = re.match(r'([\w.-]+)\s*\(?([^;)]*)\)?\s*(?:;.*extra == [\'"](\w+)[\'"])?', requirement)
        name, specifiers, extra = normalise(match[1]), match[2].strip(), match[3]
        if extra is None or extra != family:
            continue
        if name in found and not satisfies(found[name], specifiers):
            why = ': mmdet imports parts of mmpretrain that newer ones break' if name == 'transformers' else ''
            yield Diagnosis(f'{name} {found[name]} is not {name}{specifiers}{why}', True,
                          f'{PIP} install "{name}{specifiers}"')
        elif name not in found and toolbox and name not in FAMILIES[family].values():
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
