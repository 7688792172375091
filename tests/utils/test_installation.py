"""Messages name commands as the reader can call them."""
import ast
import re

import pytest

from convnext_mm.utils.installation import IN_CLONE, ROOT, command
from tests.helpers.paths import ROOT as CLONE


@pytest.mark.parametrize(('in_clone', 'name'), [(True, 'tools/check_data.py'), (False, 'convnext-mm check_data')])
def test_a_command_by_how_the_package_is_installed(in_clone, name):
    assert command('check_data', in_clone) == name


def test_the_tests_run_in_a_clone():
    assert IN_CLONE and ROOT == CLONE and (ROOT / command('check_data')).is_file()


def test_no_message_names_what_a_wheel_has_not():
    """Docstrings speak of the repository, other texts to whoever installed the wheel."""
    found = []
    for file in (ROOT / 'convnext_mm').rglob('*.py'):
        tree = ast.parse(file.read_text(encoding='utf-8'))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [f'{file.name}: {node.value}' for node in ast.walk(tree)
                  if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
                  and re.search(r'tools/\w+\.(py|sh)|\bmake (demo|setup|test)', node.value)]
    assert not [text for text in found if not text.startswith(('installation.py', 'doctor_versions.py'))]
