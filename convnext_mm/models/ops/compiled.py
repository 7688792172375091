"""The block's formula compiled by ``torch.compile``."""
import functools
import types

import torch

from convnext_mm.models.ops.block import formula


@functools.cache
def compiled_block(channels):
    """Return :func:`formula` compiled once for all blocks of a width and all sizes of images.

    The function raises an error where torch reaches its limit of recompilations, instead of running uncompiled.
    """
    # torch counts recompilations for each code object, so each width gets one of its own.
    function = types.FunctionType(formula.__code__.replace(co_name=f'block_{channels}'), formula.__globals__,
                                  argdefs=formula.__defaults__)
    compiled, config = torch.compile(function, dynamic=True, fullgraph=True), torch.fx.experimental._config

    def run(*args):
        # Without this, torch takes the height and width of a square first image for one number, and compiles again
        # for the next image. (torch's own patch() takes 32 microseconds where this takes 7.)
        before, config.use_duck_shape = config.use_duck_shape, False
        try:
            return compiled(*args)
        finally:
            config.use_duck_shape = before
    return run
