"""The fixture that records drawn texts, for all tests of drawing."""
from tests.helpers.pictures import texts

__all__ = ['texts']
