"""Checks of arguments: each returns the value in one type, or raises an error that names the argument."""
import contextlib
import math
import operator
import sys
from collections.abc import Mapping, Set
from numbers import Real
from typing import Any

from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Return ``value`` as an int in [low, high]; booleans, which Python takes for integers, are refused."""
    takes = f'an integer from {low} to {high}'
    if isinstance(value, bool):
        raise ArgumentTypeError(f'{name} must be {takes}, got {value!r}')
    try:
        value = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(f'{name} must be {takes}, got {value!r}') from None
    if not low <= value <= high:
        raise ArgumentValueError(f'{name} must be {takes}, got {value}')
    return value


def check_number(name: str, value: Any, low: float, below: float = math.inf) -> float:
    """Return ``value`` as a finite float in [low, below)."""
    takes = (f'a finite number of {low} or more' if below == math.inf else
             f'a number from {low} up to, not including, {below:g}')
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(f'{name} must be {takes}, got {value!r}')
    number: Any = value
    # Python's integers may be larger than any float.
    if not low <= number < below or number > sys.float_info.max:
        raise ArgumentValueError(f'{name} must be {takes}, got {value}')
    # A fraction just below the limit may round up to it.
    return min(float(number), math.nextafter(below, low))


def check_flag(name: str, value: Any) -> bool:
    """Return ``value``, which must be True or False."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(f'{name} must be True or False, got {value!r}')
    return value


def check_sequence(name: str, value: Any, takes: str) -> list:
    """Return ``value`` as a list. Lists, tuples, ranges and arrays are taken; text, sets and mappings are not.

    Args:
        name (str): Names the argument in the message.
        value: What was given.
        takes (str): Says in the message what is taken.
    """
    if not isinstance(value, (str, bytes, Mapping, Set)) and hasattr(value, '__len__'):
        # An array or tensor without dimensions has the method, but it raises.
        with contextlib.suppress(TypeError):
            return list(value)
    raise ArgumentTypeError(f'{name} must be {takes}, got {value!r}')
