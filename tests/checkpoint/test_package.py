"""The package's face: what it offers, and that it stays light until something is asked for."""
import subprocess
import sys

import pytest

from convnext_mm import checkpoint


@pytest.mark.parametrize('name', checkpoint.__all__)
def test_public_names(name):
    found = getattr(checkpoint, name)
    assert found.__name__ == name
    assert name in dir(checkpoint)


def test_other_names_are_told():
    with pytest.raises(AttributeError, match="'convnext_mm.checkpoint' has no attribute 'seal'"):
        _ = checkpoint.seal


@pytest.mark.parametrize('module', ['checkpoint', 'checkpoint.namings', 'checkpoint.state_dicts'])
def test_imports_are_light(module):
    program = f'import sys, convnext_mm.{module}; print(sorted({{"torch", "mmengine", "numpy"}} & sys.modules.keys()))'
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert result.stdout == '[]\n', result.stderr
