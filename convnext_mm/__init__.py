"""ConvNeXt for OpenMMLab: backbone, recipes and checkpoints for detectors and segmentors."""
from importlib import import_module

from convnext_mm.utils.needed import needed_packages
from convnext_mm.version import __version__

#: Public name -> module; imported when first asked for, so that ``import convnext_mm`` stays light.
_PUBLIC = {
    'ARCHS': 'published.archs',
    'ConvNeXt': 'models',
    'LayerDecayOptimWrapperConstructor': 'engine.optimizers',
    'swap_backbone': 'swap',
}
__all__ = ['__version__', *_PUBLIC]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    with needed_packages():
        return getattr(import_module(f'.{_PUBLIC[name]}', __name__), name)


def __dir__():
    return sorted(__all__)
