"""The rules of the house: who may import whom, what a function may import, how long a function may be.

``python -m tests.helpers.architecture`` checks the package and prints what is wrong; ``make lint`` runs it.
"""
import ast
import sys
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from tests.helpers.paths import ROOT

PACKAGE = 'convnext_mm'
_SHARED = {'published', 'registry', 'utils'}
_MODELS = {'models', 'datasets', 'checkpoint', 'drawing', *_SHARED}
#: Room -> the rooms that it may import besides itself. A room that is not named here may be imported by none.
ALLOWED = {
    'version': set(),
    'utils': set(),
    'registry': {'utils'},
    'published': {'utils'},
    'datasets': {'registry', 'utils'},
    'drawing': {'utils'},
    'checkpoint': {'published', 'utils'},
    'models': {'checkpoint', *_SHARED},
    'engine': _MODELS,
    'evaluation': _MODELS,
    'export': _MODELS,
    'swap': {'models', 'checkpoint', 'published', 'utils'},
    'visualization': {'engine', 'evaluation', 'version', *_MODELS},
    'apis': {'', 'engine', 'evaluation', 'export', 'swap', 'version', 'visualization', *_MODELS},
    # `python -m convnext_mm`.
    '__main__': {'apis'},
    # For `custom_imports` of configs.
    'checkpoint_hook': {'checkpoint', 'engine'},
    # The face of the package, `convnext_mm/__init__.py`.
    '': {'utils', 'version'},
}
#: Narrower than its room: module or package -> rooms that it may not import all the same.
FORBIDDEN = {'engine.optimizers': {'models'}, 'apis.arguments': {'models', 'engine', 'evaluation', 'swap'}}
#: Packages that an installation may lack: a function that needs one imports it.
OPTIONAL = {'bokeh', 'cv2', 'faster_coco_eval', 'imagecorruptions', 'matplotlib', 'mmcv', 'mmdet', 'mmpretrain',
            'mmseg', 'onnx', 'onnxruntime', 'openvino', 'pycocotools', 'safetensors', 'selenium', 'shapely', 'timm',
            'torchvision', 'transformers', 'triton'}
#: Modules of the package that need an optional package (triton) when they are imported.
NEED_OPTIONAL = {'models.ops.depthwise', 'models.ops.depthwise_kernels', 'models.ops.pointwise',
                 'models.ops.pointwise_kernels'}
#: Modules whose functions each try one part of an installation, which may be broken.
PROBES = {'apis.doctor_probes'}
#: Toolboxes, and the package whose classes extend theirs.
TOOLBOXES, EXTENDS = {'mmdet', 'mmseg', 'mmpretrain'}, ('evaluation.metrics', 'datasets.drawn')
MAX_LINES, MAX_PARAMETERS = 40, 8
KERNELS = '_kernels'


class Import(NamedTuple):
    """One import statement: where it stands, the module's name, and whether a function holds it."""

    module: str
    line: int
    target: str
    in_function: bool


def _below(name, package):
    return name == package or name.startswith(f'{package}.')


def read_modules(root):
    """Return ``{name below the package: syntax tree}`` of every module; a package has the name of its folder."""
    folder = root / PACKAGE
    files = {path: '.'.join(path.relative_to(folder).with_suffix('').parts) for path in folder.rglob('*.py')}
    return {name.removesuffix('__init__').rstrip('.'): ast.parse(path.read_text()) for path, name in files.items()}


def find_imports(modules):
    """Return every ``Import``; a target of the package's own is named below it, as the longest module that it names."""
    found = []

    def visit(name, node, in_function):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                targets = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                targets = [f'{child.module}.{alias.name}' for alias in child.names]
            else:
                targets = ()
            found.extend(Import(name, child.lineno, _resolve(target, modules), in_function) for target in targets)
            visit(name, child, in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    for name, tree in modules.items():
        visit(name, tree, False)
    return found


def _resolve(target, modules):
    if not _below(target, PACKAGE):
        return target
    inner = target[len(PACKAGE) + 1:]
    while inner not in modules:
        inner = inner.rpartition('.')[0]
    return f'{PACKAGE}.{inner}'.rstrip('.')


def check_import(entry):
    """Yield what is wrong with one import."""
    where = f'{entry.module or PACKAGE}:{entry.line}'
    top = entry.target.partition('.')[0]
    if top == PACKAGE:
        inner = entry.target[len(PACKAGE) + 1:]
        room, other = entry.module.partition('.')[0], inner.partition('.')[0]
        if room not in ALLOWED:
            yield f'{where}: the room {room} has no row in the table of imports'
        elif other != room and other not in ALLOWED[room]:
            yield f'{where}: {room or PACKAGE} may not import {other or PACKAGE}'
        for module, rooms in FORBIDDEN.items():
            if _below(entry.module, module) and other in rooms:
                yield f'{where}: {module} may not import {other}'
        if entry.in_function and inner not in NEED_OPTIONAL and entry.module not in PROBES:
            yield f'{where}: a function imports {entry.target}'
    elif entry.in_function and top not in OPTIONAL and entry.module not in PROBES:
        yield f'{where}: a function imports {entry.target}, which is not optional'
    if top in TOOLBOXES and not entry.in_function and not any(
            _below(entry.module, place) for place in EXTENDS):
        yield f'{where}: {top} is imported at module level where no class of it is extended'
    if top == 'triton' and not _below(entry.module, 'models.ops'):
        yield f'{where}: triton is for models.ops alone'


def check_circles(imports):
    """Yield a circle of modules, if there is one."""
    graph = {}
    for entry in imports:
        if _below(entry.target, PACKAGE):
            graph.setdefault(entry.module, set()).add(entry.target[len(PACKAGE) + 1:])
    # A package's face names its own modules, which name each other directly.
    for module, targets in graph.items():
        targets -= {module, '', *(t for t in targets if _below(module, t))}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f'a circle of imports: {" -> ".join(error.args[1])}'


def check_functions(modules):
    """Yield functions that are too long or take too many positional parameters."""
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or name.endswith(KERNELS):
                continue
            lines, parameters = node.end_lineno - node.lineno + 1, len(node.args.posonlyargs) + len(node.args.args)
            if lines > MAX_LINES:
                yield f'{name}:{node.lineno}: {node.name} has {lines} lines, at most {MAX_LINES} are read at a glance'
            if parameters > MAX_PARAMETERS and f'{name}.{node.name}' not in OTHERS_SIGNATURES:
                yield f'{name}:{node.lineno}: {node.name} has {parameters} positional parameters of {MAX_PARAMETERS}'


#: Signatures that others wrote: the users' keywords of the backbone, an operator's schema, a method of mmengine's.
OTHERS_SIGNATURES = {'models.convnext.__init__', 'engine.runner.strategies.save_checkpoint'}


def check_locations(modules):
    """Yield modules of a registry's location that register something and that the location does not import."""
    registry = ast.unparse(modules['registry'])
    for name, tree in modules.items():
        package = name.rpartition('.')[0]
        registers = any(isinstance(node, (ast.ClassDef, ast.FunctionDef)) and any('register_module' in ast.unparse(d)
                        for d in node.decorator_list) for node in ast.walk(tree))
        if registers and f"'{PACKAGE}.{package}'" not in registry:
            yield f'{name} registers a type, and {package} is no location of a registry'
        elif registers and f'{PACKAGE}.{name}' not in ast.unparse(modules[package]):
            yield f'{name} registers a type, and {package} does not import it'


def find_problems(root=ROOT):
    """Return all that breaks the rules of the house, a line each."""
    modules = read_modules(root)
    imports = find_imports(modules)
    problems = [problem for entry in imports for problem in check_import(entry)]
    return sorted({*problems, *check_circles(imports), *check_functions(modules), *check_locations(modules)})


def main():
    """Print what is wrong, or how much is right; return the exit code."""
    problems, modules = find_problems(), read_modules(ROOT)
    print('\n'.join(problems) or f'{len(modules)} modules and {len(find_imports(modules))} imports keep the rules of '
          'the house')
    return bool(problems)


if __name__ == '__main__':
    sys.exit(main())
