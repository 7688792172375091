"""The fixture that records drawn texts, for tests of pictures."""
from tests.helpers.pictures import texts

__all__ = ['texts']
