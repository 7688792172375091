"""The sizes of a ConvNeXt by name: blocks and channels of the four stages."""
from typing import Any, NamedTuple


class Arch(NamedTuple):
    """Blocks and channels of the four stages."""

    depths: tuple
    channels: tuple


#: ``tiny`` to ``xlarge`` are the paper's (arXiv:2201.03545, section 3); the smaller ones are ConvNeXt V2's
#: (arXiv:2301.00808, appendix A.1).
ARCHS = {
    'atto': Arch((2, 2, 6, 2), (40, 80, 160, 320)),
    'femto': Arch((2, 2, 6, 2), (48, 96, 192, 384)),
    'pico': Arch((2, 2, 6, 2), (64, 128, 256, 512)),
    'nano': Arch((2, 2, 8, 2), (80, 160, 320, 640)),
    'tiny': Arch((3, 3, 9, 3), (96, 192, 384, 768)),
    'small': Arch((3, 3, 27, 3), (96, 192, 384, 768)),
    'base': Arch((3, 3, 27, 3), (128, 256, 512, 1024)),
    'large': Arch((3, 3, 27, 3), (192, 384, 768, 1536)),
    'xlarge': Arch((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
NUM_STAGES = 4
#: The paper's letters.
LETTERS = dict(tiny='T', small='S', base='B', large='L', xlarge='XL')


def arch_name(arch: Any) -> str | None:
    """Return the key of ``ARCHS`` for something with ``depths`` and ``channels`` of four stages, or None."""
    return next((name for name, known in ARCHS.items() if known == (tuple(arch.depths), tuple(arch.channels))), None)


def describe_arch(arch: Any, names: dict[str, str] | None = None) -> str:
    """Return the name and depths of something with depths and channels, such as ``small (3, 3, 27, 3)``.

    Args:
        arch (Arch | Any): Has ``depths`` and ``channels`` of four stages.
        names (dict, optional): Other names for those of ``ARCHS``, such as ``LETTERS``.
    """
    name = arch_name(arch)
    if name is None:
        return f'{tuple(arch.depths)} with channels {tuple(arch.channels)}'
    return f'{(names or {}).get(name, name)} {tuple(arch.depths)}'
