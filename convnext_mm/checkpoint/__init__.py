"""Checkpoints: find, read, tell the naming, fit, verify, convert."""
from importlib import import_module

#: Public name -> module; imported when first asked for, so that ``import convnext_mm.checkpoint`` stays light.
_PUBLIC = {'CheckpointError': 'errors', 'convert_file': 'convert', 'describe_file': 'convert',
           'fit_model': 'whole_model', 'load_checkpoint': 'mmengine_loader', 'load_pretrained': 'fit',
           'read': 'files', 'write': 'files'}
__all__ = list(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_PUBLIC[name]}', __name__), name)


def __dir__():
    return sorted(__all__)
