"""Child registries, so that ``convnext_mm.X`` resolves from every scope without ``custom_imports``.

mmengine's ``Registry.get`` imports ``<scope>.registry`` for a scope it has not seen yet, and a registry imports its
``locations`` when it is first asked for a name.
"""
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.needed import check_needed

# Before the import below, which may lack what is used here. mmengine hides an ImportError of this module.
check_needed(UserError)

import mmengine.registry as parents  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

MODELS = Registry('model', scope='convnext_mm', parent=parents.MODELS,
                  locations=['convnext_mm.models', 'convnext_mm.export'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', scope='convnext_mm', parent=parents.OPTIM_WRAPPER_CONSTRUCTORS,
    locations=['convnext_mm.engine.optimizers'])
HOOKS = Registry('hook', scope='convnext_mm', parent=parents.HOOKS, locations=['convnext_mm.engine.hooks'])
LOOPS = Registry('loop', scope='convnext_mm', parent=parents.LOOPS, locations=['convnext_mm.engine.runner'])
VISBACKENDS = Registry('vis_backend', scope='convnext_mm', parent=parents.VISBACKENDS,
                       locations=['convnext_mm.visualization'])
RUNNERS = Registry('runner', scope='convnext_mm', parent=parents.RUNNERS, locations=['convnext_mm.engine.runner'])
STRATEGIES = Registry('strategy', scope='convnext_mm', parent=parents.STRATEGIES,
                      locations=['convnext_mm.engine.runner'])
FUNCTIONS = Registry('function', scope='convnext_mm', parent=parents.FUNCTIONS,
                     locations=['convnext_mm.engine.runner'])
METRICS = Registry('metric', scope='convnext_mm', parent=parents.METRICS,
                   locations=['convnext_mm.evaluation.metrics'])
TRANSFORMS = Registry('transform', scope='convnext_mm', parent=parents.TRANSFORMS,
                      locations=['convnext_mm.datasets.transforms'])
DATASETS = Registry('dataset', scope='convnext_mm', parent=parents.DATASETS,
                    locations=['convnext_mm.datasets.drawn'])
