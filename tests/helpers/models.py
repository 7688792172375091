"""What tests do with models."""
import torch


def randomise(model, seed=0):
    """Give every parameter a random value: at the initial layer scale a comparison of features proves nothing.

    Weights keep the paper's deviation, so that 27 blocks neither explode nor vanish.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and 'grn' not in name:
                parameter.normal_(0, .02, generator=generator)
            else:
                parameter.uniform_(.2, .8, generator=generator)
                if name.endswith(('bias', 'beta')):
                    parameter.sub_(.5)
    return model


def relative_difference(a, b):
    """Largest difference, as a share of the largest feature of ``b``."""
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()
