"""Read config files: with bases of every toolbox in both families, and with all that a pure Python config imports."""
from pathlib import Path

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.config.utils import MODULE2PACKAGE

from convnext_mm.utils.configs import walk

# For `_base_ = 'mmseg::...'` mmengine looks for the distribution mmsegmentation, which OneDL's family names otherwise.
# By its own name, mmseg is found in both. This holds for the whole process: no argument, subclass or registry of
# mmengine's reaches that table.
MODULE2PACKAGE['mmseg'] = 'mmseg'


def read_file(file: str | Path) -> Config:
    """Return the config in a file; what it raises is the config's own error."""
    cfg = Config.fromfile(file)
    # A pure Python config imports late; what cannot be imported is found here, and not in the middle of the work.
    for _, node in walk(cfg._to_lazy_dict()):
        for value in node.values():
            if isinstance(value, (LazyObject, LazyAttr)):
                value.build()
    return cfg
