"""Errors of the swap: a backbone that cannot be exchanged, a swapped model that does not work."""
from convnext_mm.utils.errors import UserError

#: Kinds of ``RefusedError``.
NOT_A_MODEL = 'no model in the config'
NO_IMAGE = 'no image backbone'
OWN = 'network of its own'
PACKAGE = 'package missing'
STRUCTURE = 'structure'


class RefusedError(UserError):
    """A backbone cannot be exchanged; ``kind`` is the reason in a few words, one of those above."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class VerificationError(UserError):
    """A swapped model does not work; ``stage`` is build, optimizer, loss, gradients or prediction."""

    def __init__(self, stage, message):
        super().__init__(message)
        self.stage = stage


class NoKernelError(VerificationError):
    """An operator of the model has no CPU kernel; ``operator`` is its name."""

    def __init__(self, stage, operator):
        super().__init__(stage, f'{operator} has no CPU kernel: the model is built, and can be verified on a GPU only')
        self.operator = operator


class MissingPackageError(VerificationError):
    """The model needs a package that is not installed."""
