"""Find configs by name: those of this package and of the installed toolboxes, in both families."""
import posixpath
from difflib import get_close_matches
from importlib import util
from pathlib import Path

from convnext_mm.utils.errors import ArgumentTypeError, UserError

OWN = 'convnext_mm'
#: Packages whose names of configs are proposed for one that does not exist.
PACKAGES = (OWN, 'mmdet', 'mmseg', 'mmpretrain')
_EXPECTED = f'expected a path, or {", ".join(f"{package}::FAMILY/NAME.py" for package in PACKAGES)}'


def config_folder(package: str) -> Path:
    """Return the folder of the configs that came with a package, such as ``mmdet``.

    mmengine's ``mmdet::...`` looks for a distribution of a certain name, which the OneDL family does not have for every
    package. The folder of the package itself is found in both families.

    Raises:
        UserError: The package is not installed, or has no configs.
    """
    spec = util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        if package not in PACKAGES:
            near = get_close_matches(package, PACKAGES, 1)
            hint = f', did you mean {near[0]}::? ' if near else '; '
            raise UserError(f'{package!r} is not installed{hint}{_EXPECTED}')
        raise UserError(f'{package} is not installed, and its configs with it: pip install convnext_mm[onedl] or '
                        'convnext_mm[openmmlab]')
    package_folder = Path(next(iter(spec.submodule_search_locations)))
    # A clone installed in place (pip install -e) has its configs beside the package.
    for folder in (package_folder / '.mim' / 'configs', package_folder.parent / 'configs'):
        if folder.is_dir():
            return folder
    raise UserError(f'{package} at {package_folder} came without its configs: give the path of a config file')


def find_config(name: str) -> Path:
    """Return the path of a config given as a path or as ``package::path/within/its/configs.py``.

    Raises:
        UserError: It does not exist; the message lists the nearest names.
    """
    package, mark, inner = name.partition('::')
    path = config_folder(package) / inner if mark else Path(name)
    path = path if path.suffix == '.py' or not mark else path.with_name(f'{path.name}.py')
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f'config {name!r} is a folder; {_EXPECTED}')
    near = _nearest(inner, {name: f'{package}::{name}' for name in leaf_configs(package)}) if mark else _near_path(path)
    raise UserError(f'config {name!r} does not exist; ' + (f'did you mean {" or ".join(near)}?' if near else _EXPECTED))


def config(name: str) -> str:
    """Return the path of a config of this package, or of a toolbox, for use as a base in every tool of mm.

    Examples:
        >>> _base_ = __import__('convnext_mm').config('cascade/convnext_t_3x.py')

    Args:
        name (str): Its place in ``configs``, such as ``cascade/convnext_t_3x.py``, or ``mmseg::FAMILY/NAME.py`` for
            one of mmdet, mmseg or mmpretrain.

    Raises:
        ArgumentTypeError: ``name`` is not a text.
        UserError: It does not exist; the message lists the nearest names.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f'name must be a text such as cascade/convnext_t_3x.py, got {name!r}')
    return str(find_config(name if '::' in name else f'{OWN}::{name}'))


def leaf_configs(package: str) -> list[str]:
    """Return the names of all configs of a package that are not bases, relative to its folder, sorted."""
    folder = config_folder(package)
    names = (path.relative_to(folder) for path in sorted(folder.rglob('*.py')))
    return [name.as_posix() for name in names if '_base_' not in name.parts and name.name != '_base_.py']


def _near_path(path):
    """Return what is near a path: files beside it, or else configs that are installed."""
    beside = {file.as_posix(): file.as_posix() for file in sorted(path.parent.glob('*.py'))}
    near = _nearest(path.as_posix(), beside)
    if near:
        return near
    packages = (package for package in PACKAGES if util.find_spec(package))
    # The folders above the family's are another machine's, or the reader's own.
    return _nearest('/'.join(path.parts[-2:]),
                    {name: f'{package}::{name}' for package in packages for name in leaf_configs(package)})


def _nearest(name, names):
    """Return at most three of the texts in ``{name: text}``: of the same file name, or of names or files like it."""
    file, files = posixpath.basename(name), {posixpath.basename(known): known for known in names}
    close = [known for known in names if posixpath.basename(known) in (file, f'{file}.py')][:3]
    if not close:
        close = get_close_matches(name, names, 3) or [files[near] for near in get_close_matches(file, files, 3, .7)]
    return [names[known] for known in close]
