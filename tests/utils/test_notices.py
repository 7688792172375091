"""OneDL's notice is hidden, and nothing else."""
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
from convnext_mm.utils.notices import hide_notices
hide_notices()
hide_notices()
import {package}.datasets
from mmengine.logging import print_log
print_log('something else')
print_log('to nobody', logger='silent')
"""


@pytest.mark.parametrize('package', ['mmdet', 'mmseg', 'mmpretrain'])
def test_the_notice_alone_is_hidden(package):
    if find_spec(package) is None:
        pytest.skip(f'{package} is not installed')
    done = subprocess.run([sys.executable, '-c', PROGRAM.format(package=package)], capture_output=True, text=True)
    assert done.stdout.splitlines() == ['something else'], done.stderr
