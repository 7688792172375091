"""Examine an installation: what does not work, why, and the command that mends it.

Imports nothing but the standard library, as whatever else is broken may be the subject. What must be imported to be
tried is tried by ``doctor_probes`` in processes of their own.
"""
import os
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

from convnext_mm.apis.doctor_remedies import FAMILIES, PIP, Diagnosis, explain, package
from convnext_mm.apis.doctor_versions import check_python, check_versions, family_of, installed
from convnext_mm.utils.installation import IN_CLONE, ROOT

#: Seconds that a probe may take.
PATIENCE = 900
#: The module with the probes.
PROBES = 'convnext_mm.apis.doctor_probes'


def probes(found):
    """Yield (name, what it tries) of the probes that this installation should pass; each builds on those before."""
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
    # The classifier's transforms are timm's.
    present |= {'timm'} & set(found)
    for name, needs in (('detector', {'mmcv', 'mmdet'}), ('segmentor', {'mmcv', 'mmseg'}),
                        ('classifier', {'mmcv', 'mmpretrain', 'timm'})):
        if needs <= present:
            yield name, f'two training steps of a {name} on drawn shapes'


def run_probe(name):
    """Run a probe in a process of its own; return what it says and the text of its error, '' if it passed."""
    # A clone need not be installed.
    paths = [str(ROOT) if IN_CLONE else '', os.environ.get('PYTHONPATH')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}
    try:
        result = subprocess.run([sys.executable, '-m', PROBES, name], text=True, capture_output=True, timeout=PATIENCE,
                                env=environment, errors='replace')
    except subprocess.TimeoutExpired:
        return '', f'not done after {PATIENCE} s'
    if result.returncode < 0:
        return '', f'{result.stderr}\nthe process was killed by signal {-result.returncode}'
    # Packages may greet before the last paragraph.
    return result.stdout.rpartition('\n\n')[2].strip(), result.stderr if result.returncode else ''


def _requires(name):
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return None


def _sources():
    """Return the text of the ``__init__.py`` of each toolbox that is there, without importing it."""
    specs = {name: util.find_spec(name) for name in ('mmdet', 'mmseg', 'mmpretrain')}
    return {name: Path(spec.origin).read_text() for name, spec in specs.items() if spec and spec.origin}


def examine():
    """Yield every ``Diagnosis`` of this installation, the quick ones first."""
    found = installed()
    family = family_of(found)
    yield check_python()
    requirements = _requires('convnext_mm')
    if requirements is None:
        yield Diagnosis('convnext_mm itself is not installed', True,
                        f'{PIP} install --no-build-isolation {package()}')
    else:
        yield Diagnosis(f'convnext_mm {found["convnext-mm"]}, {"the clone" if IN_CLONE else "a wheel"} in {ROOT}')
    for name in ('torch', 'torchvision', 'numpy', 'setuptools', 'transformers'):
        if name in found:
            yield Diagnosis(f'{name} {found[name]}')
    yield from check_versions(found, requirements or (), _sources(), _requires('torchvision') or ())
    if shutil.which('nvidia-smi'):
        listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True)
        yield Diagnosis(f'GPU: {" ".join(listed.stdout.split()) or "nvidia-smi lists none"}')
    yield from _try(probes(found), family)


def _try(chosen, family):
    """Yield a ``Diagnosis`` of each probe; those after one that fails are not tried."""
    failed = None
    for name, what in chosen:
        if failed:
            yield Diagnosis(f'not tried, as {failed} failed: {what}')
            continue
        said, error = run_probe(name)
        if error:
            failed, cause = name, explain(error, family)
            yield cause._replace(text=f'{what}: {cause.text}')
        else:
            yield Diagnosis(what + (f': {said}' if said else ''))


def main(args):
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
