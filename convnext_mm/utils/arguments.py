"""Checks of arguments: each returns the value in one type, or raises an error that names the argument."""
import contextlib
import math
import operator
from collections.abc import Mapping, Set
from numbers import Real

from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError


def check_integer(name, value, low, high):
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


def check_number(name, value, low, below):
    """Return ``value`` as a float in [low, below)."""
    takes = f'a number from {low} up to, not including, {below:g}'
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(f'{name} must be {takes}, got {value!r}')
    if not low <= value < below:
        raise ArgumentValueError(f'{name} must be {takes}, got {value}')
    # A fraction just below the limit may round up to it.
    return min(float(value), math.nextafter(below, low))


def check_flag(name, value):
    """Return ``value``, True or False."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(f'{name} must be True or False, got {value!r}')
    return value


def check_sequence(name, value, takes):
    """Return ``value`` as a list; anything in an order is taken, text excepted."""
    if not isinstance(value, (str, bytes, Mapping, Set)) and hasattr(value, '__len__'):
        # An array of numpy's or torch's without dimensions has a length, but none that it tells.
        with contextlib.suppress(TypeError):
            return list(value)
    raise ArgumentTypeError(f'{name} must be {takes}, got {value!r}')
