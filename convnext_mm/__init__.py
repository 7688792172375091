"""ConvNeXt for OpenMMLab: backbone, recipes and checkpoints for detectors, segmentors and classifiers."""
from importlib import import_module

from convnext_mm.utils.needed import check_needed
from convnext_mm.version import __version__

#: Packages of the modules below that work with the standard library alone.
_LIGHT = {'published', 'utils'}
#: Public name -> module; imported when first asked for, so that ``import convnext_mm`` stays light.
_PUBLIC = {
    'ARCHS': 'published.archs',
    'ConvNeXt': 'models',
    'IsotropicConvNeXt': 'models',
    'LayerDecayOptimWrapperConstructor': 'engine.optimizers',
    'ModernizedResNet': 'models',
    'config': 'utils.config_files',
    'swap_backbone': 'swap',
}
__all__ = ['__version__', *_PUBLIC]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if _PUBLIC[name].partition('.')[0] not in _LIGHT:
        check_needed()
    return getattr(import_module(f'.{_PUBLIC[name]}', __name__), name)


def __dir__():
    return sorted(__all__)
