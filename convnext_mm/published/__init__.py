"""What is published, as data: the paper's numbers (``paper``), the sizes of its models (``archs``),
the weights by name (``weights``)."""
from convnext_mm.published.archs import ARCHS, Arch
from convnext_mm.published.paper import published, recipe

__all__ = ['ARCHS', 'Arch', 'published', 'recipe']
