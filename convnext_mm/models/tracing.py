"""Who looks at a model's operations while it runs, instead of only wanting its result."""
import torch

#: Whether torch compiles or exports: torch 2.1 lacks it, and blocks compile from ``arguments.COMPILE_SINCE`` on.
is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)
# Before torch 2.7, `torch.export` cannot be told from `torch.compile`.
_is_in_torch_export = getattr(torch.compiler, 'is_exporting', lambda: False)


def is_exporting() -> bool:
    """Return whether a tracer, or ``torch.export``, records the model for images of any size and for inference."""
    return torch.jit.is_tracing() or _is_in_torch_export()
