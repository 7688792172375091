"""Child registries, so that ``convnext_mm.X`` resolves from every scope without ``custom_imports``.

mmengine's ``Registry.get`` imports ``<scope>.registry`` for a scope it has not seen yet, and a registry imports its
``locations`` when it is first asked for a name.
"""
from convnext_mm.utils.needed import needed_packages

with needed_packages():
    # mmengine's registries come without torch, but nothing can be built from them.
    import torch  # noqa: F401
    from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
    from mmengine.registry import HOOKS as MMENGINE_HOOKS
    from mmengine.registry import LOOPS as MMENGINE_LOOPS
    from mmengine.registry import METRICS as MMENGINE_METRICS
    from mmengine.registry import MODELS as MMENGINE_MODELS
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
    from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
    from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
    from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
    from mmengine.registry import Registry

MODELS = Registry('model', scope='convnext_mm', parent=MMENGINE_MODELS, locations=['convnext_mm.models'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', scope='convnext_mm', parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    locations=['convnext_mm.engine.optimizers'])
HOOKS = Registry('hook', scope='convnext_mm', parent=MMENGINE_HOOKS, locations=['convnext_mm.engine.hooks'])
LOOPS = Registry('loop', scope='convnext_mm', parent=MMENGINE_LOOPS, locations=['convnext_mm.engine.runner'])
VISBACKENDS = Registry('vis_backend', scope='convnext_mm', parent=MMENGINE_VISBACKENDS,
                       locations=['convnext_mm.visualization'])
RUNNERS = Registry('runner', scope='convnext_mm', parent=MMENGINE_RUNNERS, locations=['convnext_mm.engine.runner'])
STRATEGIES = Registry('strategy', scope='convnext_mm', parent=MMENGINE_STRATEGIES,
                      locations=['convnext_mm.engine.runner'])
FUNCTIONS = Registry('function', scope='convnext_mm', parent=MMENGINE_FUNCTIONS,
                     locations=['convnext_mm.engine.runner'])
METRICS = Registry('metric', scope='convnext_mm', parent=MMENGINE_METRICS,
                   locations=['convnext_mm.evaluation.metrics'])
