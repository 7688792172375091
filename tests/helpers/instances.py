"""Several runs in one process."""
from mmengine.utils import ManagerMixin


def forget_instances(kind=ManagerMixin):
    """Forget mmengine's global loggers and visualizers: a second run would write into the first one's folder."""
    for child in kind.__subclasses__():
        getattr(child, '_instance_dict', {}).clear()
        forget_instances(child)
