"""Every registered type resolves by its scoped name, from every scope, without ``custom_imports``."""
import importlib
import re
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

#: Child registry -> the names that configs may use with the prefix ``convnext_mm.``.
NAMES = {
    'MODELS': ['ConvNeXt', 'ExportedClassifier', 'ExportedDetector', 'ExportedSegmentor', 'IsotropicConvNeXt',
               'ModernizedResNet', 'PooledLayerNorm'],
    'OPTIM_WRAPPER_CONSTRUCTORS': ['LayerDecayOptimWrapperConstructor'],
    'HOOKS': ['CheckpointHook', 'EMAHook', 'InterruptionHook', 'LayerRateHook', 'PredictionPicturesHook', 'ResumeHook',
              'RunStateHook', 'SafeCheckpointHook', 'ScheduleLimitHook', 'ShardedEMAHook', 'WholeValidationHook'],
    'LOOPS': ['EpochBasedTrainLoop', 'IterBasedTrainLoop'],
    'RUNNERS': ['StrategyRunner'],
    'STRATEGIES': ['FSDPStrategy'],
    'FUNCTIONS': ['wrap_blocks'],
    'VISBACKENDS': ['TensorboardVisBackend'],
    'METRICS': ['CocoMetric', 'IoUMetric'],
    'DATASETS': ['ShapesDataset'],
    'TRANSFORMS': ['ImageNetEvalTransform', 'ImageNetTrainTransform'],
}
#: Toolbox that a type needs.
NEEDS = {'CocoMetric': 'mmdet', 'IoUMetric': 'mmseg', 'ShapesDataset': 'mmseg'}
SCOPES = ['mmengine', 'mmdet', 'mmseg', 'mmpretrain']


def works(package):
    try:
        importlib.import_module(package)
    except (ImportError, AssertionError):
        return False
    return True


@pytest.mark.parametrize('scope', SCOPES)
def test_names_resolve_from_every_scope(scope):
    pytest.importorskip(scope, reason=f'{scope} is not installed')
    # Each scope asks another registry first, so that no registry needs what another one imports.
    start = SCOPES.index(scope) * 2
    registries = [*list(NAMES)[start:], *list(NAMES)[:start]]
    names = [(registry, name) for registry in registries for name in NAMES[registry]
             if name not in NEEDS or works(NEEDS[name])]
    # A new process: here, convnext_mm may have been imported by another test.
    program = '; '.join([
        f'import mmengine.registry, {scope}.registry as scope',
        'find = lambda kind, name: getattr(scope, kind, getattr(mmengine.registry, kind)).get("convnext_mm." + name)',
        f'found = {{name: find(kind, name) for kind, name in {names}}}',
        'wrong = {name: type for name, type in found.items() if getattr(type, "__name__", None) != name}',
        'assert not wrong, wrong'])
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_the_table_has_every_registered_name():
    registered = re.compile(r'^@(\w+)\.register_module\(\)\n(?:class|def) (\w+)', re.M)
    found = {}
    for file in (ROOT / 'convnext_mm').rglob('*.py'):
        for registry, name in registered.findall(file.read_text()):
            found.setdefault(registry, []).append(name)
    assert {registry: sorted(names) for registry, names in found.items()} == NAMES
