"""Names of what configs ask for, and of parameters."""
import re

# Segments that torch.compile, FSDP and activation-checkpoint wrappers put into parameter names.
_WRAPPERS = re.compile(r'(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')


def type_name(settings):
    """Name of the type of a part of a config, without its scope; new-style configs give the class itself."""
    kind = (settings or {}).get('type') or ''
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__


def without_wrappers(name):
    """A parameter's name as the plain model has it."""
    return _WRAPPERS.sub('', name)
