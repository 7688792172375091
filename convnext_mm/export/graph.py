"""What the graphs of all kinds of models share."""
from typing import Any

import torch.nn as nn
from torch import Tensor


class ModelGraph(nn.Module):
    """A model with what stands before and after it, in eval mode.

    Args:
        model (nn.Module): The model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        # Exporters give a module back in the mode that it had, its parts included.
        self.eval()


class LogitsGraph(ModelGraph):
    """A graph of one result, behind which the logits may stand.

    Args:
        model (nn.Module): The model.
        logits (bool): Return the logits too. Defaults to False.
    """

    #: Name of the result.
    result: str

    def __init__(self, model: nn.Module, logits: bool = False) -> None:
        super().__init__(model)
        self.logits = logits

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the results."""
        return (self.result, 'logits') if self.logits else (self.result,)

    def results(self, result: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
        """Return what ``outputs`` names."""
        return (result, logits) if self.logits else (result,)
