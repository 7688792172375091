"""ConvNeXt for OpenMMLab: backbone, recipes and checkpoints for detectors and segmentors."""
from importlib import import_module, util

from convnext_mm.version import __version__

for _package, _install in (('torch', 'torch (2.1 or newer)'),
                           ('mmengine', 'convnext_mm[onedl] (the OneDL distributions) or convnext_mm[openmmlab] '
                                        '(the classic ones)')):
    if util.find_spec(_package) is None:
        raise ImportError(f'convnext_mm needs {_package}, which is not installed: pip install {_install}')

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
    return getattr(import_module(f'.{_PUBLIC[name]}', __name__), name)


def __dir__():
    return sorted(__all__)
