"""The sizes of a ConvNeXt by name: blocks and channels of the four stages; of an isotropic one, of its only stage."""
from typing import Any, NamedTuple


class Arch(NamedTuple):
    """Blocks and channels of the stages."""

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
#: The paper's isotropic models (table 2).
ISOTROPIC_ARCHS = {
    'isotropic_small': Arch((18,), (384,)),
    'isotropic_base': Arch((18,), (768,)),
    'isotropic_large': Arch((36,), (1024,)),
}
#: The paper's letters.
LETTERS = dict(tiny='T', small='S', base='B', large='L', xlarge='XL')


def arch_name(arch: Any) -> str | None:
    """Return the key of ``ARCHS`` or ``ISOTROPIC_ARCHS`` for something with ``depths`` and ``channels``, or None."""
    sizes = (tuple(arch.depths), tuple(arch.channels))
    return next((name for name, known in {**ARCHS, **ISOTROPIC_ARCHS}.items() if known == sizes), None)


def describe_arch(arch: Any, names: dict[str, str] | None = None) -> str:
    """Return the name and depths of something with depths and channels, such as ``small (3, 3, 27, 3)``.

    Args:
        arch (Arch | Any): Has ``depths`` and ``channels``.
        names (dict, optional): Other names for those of ``ARCHS``, such as ``LETTERS``.
    """
    name = arch_name(arch)
    if name is None:
        return f'{tuple(arch.depths)} with channels {tuple(arch.channels)}'
    return f'{(names or {}).get(name, name)} {tuple(arch.depths)}'
