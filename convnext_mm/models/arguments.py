"""Checks of the backbone's arguments: each function returns an argument in the form that the backbone uses."""
from collections.abc import Mapping, Sequence

import torch

from convnext_mm.published.archs import ARCHS, ISOTROPIC_ARCHS, NUM_STAGES, Arch
from convnext_mm.utils.arguments import check_flag, check_integer, check_sequence
from convnext_mm.utils.errors import ArgumentTypeError, ArgumentValueError

#: Far beyond any model: larger numbers are typing errors, which would fill the memory.
MAX_CHANNELS, MAX_DEPTH = 2 ** 16, 1000
#: Beyond this, a few blocks take features out of float32's range.
MAX_LAYER_SCALE = 1e6
OUTPUT_STRIDES = (8, 16, 32)
MEMORY_FORMATS = ('channels_last', 'contiguous_format')
#: The first torch whose compiler takes images of any size.
COMPILE_SINCE = (2, 6)


def parse_arch(arch: str | Mapping) -> Arch:
    """Return the ``Arch`` of a name, or of a dict of ``depths`` and ``channels``.

    Raises:
        ArgumentTypeError, ArgumentValueError: Naming ``arch``, what it got and what it takes.
    """
    known = _find_named(arch, ARCHS, Arch._fields)
    if known:
        return known
    fields = []
    for key in Arch._fields:
        takes, high = f'a sequence of {NUM_STAGES} positive integers', MAX_DEPTH if key == 'depths' else MAX_CHANNELS
        value = check_sequence(f'arch[{key!r}]', arch[key], takes)
        if len(value) != NUM_STAGES:
            raise ArgumentValueError(f'arch[{key!r}] must be {takes}, got {list(value)}')
        fields.append(tuple(check_integer(f'arch[{key!r}][{i}]', v, 1, high) for i, v in enumerate(value)))
    return Arch(*fields)


def parse_isotropic_arch(arch: str | Mapping) -> Arch:
    """Return the ``Arch`` of an isotropic model by its size, or by a dict of ``depth`` and ``channels``.

    Raises:
        ArgumentTypeError, ArgumentValueError: Naming ``arch``, what it got and what it takes.
    """
    sizes = {name.removeprefix('isotropic_'): known for name, known in ISOTROPIC_ARCHS.items()}
    known = _find_named(arch, sizes, ('depth', 'channels'))
    if known:
        return known
    return Arch((check_integer("arch['depth']", arch['depth'], 1, MAX_DEPTH),),
                (check_integer("arch['channels']", arch['channels'], 1, MAX_CHANNELS),))


def _find_named(arch, known, keys):
    """Return the ``Arch`` that a name stands for; None for a dict with these keys."""
    words = ' and '.join(keys)
    if isinstance(arch, str):
        if arch not in known:
            raise ArgumentValueError(f"arch must be one of {', '.join(known)}, or a dict of {words}, got {arch!r}")
        return known[arch]
    if not isinstance(arch, Mapping):
        raise ArgumentTypeError(f'arch must be a name or a dict of {words}, got {arch!r}')
    if set(arch) != set(keys):
        raise ArgumentValueError(f'arch as a dict must have the keys {words}, got {sorted(arch, key=str)}')
    return None


def parse_out_indices(out_indices: Sequence[int], number: int = NUM_STAGES, unit: str = 'stage') -> tuple[int, ...]:
    """Return the numbers of stages, or of ``number`` other units, in ascending order, from any sequence of distinct
    numbers from ``-number`` on."""
    takes = f'a non-empty sequence of distinct {unit} numbers from {-number} to {number - 1}'
    indices = [check_integer(f'out_indices[{i}]', v, -number, number - 1) % number
               for i, v in enumerate(check_sequence('out_indices', out_indices, takes))]
    if not indices or len(set(indices)) != len(indices):
        raise ArgumentValueError(f'out_indices must be {takes}, got {list(out_indices)}')
    return tuple(sorted(indices))


def parse_with_cp(with_cp: bool | int | Sequence[int]) -> tuple[int, ...]:
    """Return the stages to recompute, from True, False, a number of first stages or a sequence of stage numbers."""
    if isinstance(with_cp, bool):
        return tuple(range(NUM_STAGES)) if with_cp else ()
    if hasattr(with_cp, '__len__'):
        stages = check_sequence('with_cp', with_cp, f'a sequence of stage numbers from 0 to {NUM_STAGES - 1}')
        return tuple(sorted({check_integer(f'with_cp[{i}]', v, 0, NUM_STAGES - 1) for i, v in enumerate(stages)}))
    return tuple(range(check_integer('with_cp', with_cp, 0, NUM_STAGES)))


def parse_memory_format(memory_format: str) -> str:
    """Return ``memory_format``; refuse any outside of ``MEMORY_FORMATS``."""
    if not isinstance(memory_format, str) or memory_format not in MEMORY_FORMATS:
        raise ArgumentValueError(f'memory_format must be one of {", ".join(MEMORY_FORMATS)}, got {memory_format!r}')
    return memory_format


def parse_compile(compile: bool) -> bool:
    """Return ``compile``; refuse True where torch's compiler does not take images of any size."""
    if check_flag('compile', compile) and tuple(map(int, torch.__version__.split('.')[:2])) < COMPILE_SINCE:
        raise ArgumentValueError('compile must be False before torch {}.{}, '.format(*COMPILE_SINCE) +
                                 f'got True with torch {torch.__version__}')
    return compile


def parse_output_stride(output_stride: object) -> int:
    """Return ``output_stride`` as an int; refuse any outside of ``OUTPUT_STRIDES``."""
    value = check_integer('output_stride', output_stride, OUTPUT_STRIDES[0], OUTPUT_STRIDES[-1])
    if value not in OUTPUT_STRIDES:
        raise ArgumentValueError(f'output_stride must be one of {", ".join(map(str, OUTPUT_STRIDES))}, got {value}')
    return value
