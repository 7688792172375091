"""Names of parameters."""
import re

# Segments that torch.compile, FSDP and activation-checkpoint wrappers put into parameter names.
_WRAPPERS = re.compile(r'(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')


def plain_name(name):
    """A parameter's name as the plain model has it."""
    return _WRAPPERS.sub('', name)
