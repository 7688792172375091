"""Names of parameters as the plain model has them."""
import re

# Wrappers of torch.compile, FSDP and activation checkpointing add these parts to the names of parameters.
_WRAPPERS = re.compile(r'(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')


def plain_name(name: str) -> str:
    """Return the name that a parameter has in the plain model, without wrappers."""
    return _WRAPPERS.sub('', name)
