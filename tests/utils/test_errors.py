"""What an error says in one line is never empty."""
import pytest

from convnext_mm.utils.errors import UserError, describe_error


@pytest.mark.parametrize(('error', 'text'), [
    (ValueError('a\n  b'), 'ValueError: a b'), (UserError('the file is empty'), 'the file is empty'),
    (KeyError('mean'), "KeyError: 'mean'"), (RuntimeError('x' * 1000), f'RuntimeError: {"x" * 300}'),
    (AssertionError(), 'AssertionError in test_an_error_is_described, tests/utils/test_errors.py:'),
    (MemoryError(' '), 'MemoryError in test_an_error_is_described, tests/utils/test_errors.py:'),
    (UserError(), 'UserError in test_an_error_is_described, tests/utils/test_errors.py:')])
def test_an_error_is_described(error, text):
    with pytest.raises(type(error)) as info:
        raise error
    said = describe_error(info.value)
    assert said.startswith(text) and len(said) <= len(text) + 4


def test_an_error_that_was_not_raised_has_its_type():
    assert describe_error(AssertionError()) == 'AssertionError'
