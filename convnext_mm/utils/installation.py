"""How this package is installed, and how its commands are called then."""
from pathlib import Path

#: The folder that holds the package: a clone's, or the one that a wheel was installed into.
ROOT = Path(__file__).resolve().parents[2]
IN_CLONE = (ROOT / 'setup.py').is_file()
#: Makes data and two trained models from nothing.
DEMO = 'make demo' if IN_CLONE else 'convnext-mm demo'


def command(name: str, in_clone: bool = IN_CLONE) -> str:
    """Return how messages name a command such as ``check_data``: its script in a clone, else the wheel's command."""
    return f'tools/{name}.py' if in_clone else f'convnext-mm {name}'
