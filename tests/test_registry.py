"""Every registered type resolves by its scoped name, from every scope, without ``custom_imports``."""
import subprocess
import sys

import pytest

NAMES = [('MODELS', 'ConvNeXt'), ('OPTIM_WRAPPER_CONSTRUCTORS', 'LayerDecayOptimWrapperConstructor'),
         ('HOOKS', 'SafeCheckpointHook'), ('HOOKS', 'LayerRateHook'), ('VISBACKENDS', 'TensorboardVisBackend')]


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmseg', 'mmpretrain'])
def test_names_resolve_from_every_scope(scope):
    pytest.importorskip(scope, reason=f'{scope} is not installed')
    # A new process: here, convnext_mm may have been imported by another test.
    lines = '; '.join(f"assert {scope}.registry.{registry}.get('convnext_mm.{name}').__name__ == '{name}'"
                      for registry, name in NAMES)
    result = subprocess.run([sys.executable, '-c', f'import {scope}.registry; {lines}'], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('package', ['torch', 'mmengine'])
def test_import_says_what_to_install(package):
    program = ('import importlib.util as u; find = u.find_spec; '
               f'u.find_spec = lambda name, *a: None if name == "{package}" else find(name, *a); import convnext_mm')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f'ImportError: convnext_mm needs {package}, which is not installed: pip install')
