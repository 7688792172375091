"""Find the configs inside the installed toolboxes of both families."""
from importlib import util
from pathlib import Path

from convnext_mm.utils.errors import UserError


def config_folder(package: str) -> Path:
    """Return the folder of the configs that came with a package, such as ``mmdet``.

    mmengine's ``mmdet::...`` looks for a distribution of a certain name, which the OneDL family does not have for every
    package. The folder of the package itself is found in both families.

    Raises:
        UserError: The package is not installed, or has no configs.
    """
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
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
        UserError: It does not exist; the message lists configs of a similar name.
    """
    package, mark, inner = name.partition('::')
    path = config_folder(package) / inner if mark else Path(name)
    path = path if path.suffix == '.py' or not mark else path.with_name(path.name + '.py')
    if path.is_file():
        return path
    near = sorted(p.name for p in path.parent.glob('*.py'))[:3] if path.parent.is_dir() else []
    raise UserError(f'config {name!r} does not exist' + (f'; beside it are {", ".join(near)}, ...' if near else
                    '; expected a path, or mmdet::FAMILY/NAME.py or mmseg::FAMILY/NAME.py'))


def leaf_configs(package: str) -> list[str]:
    """Return the names of all configs of a package that are not bases, relative to its folder, sorted."""
    folder = config_folder(package)
    names = (path.relative_to(folder) for path in sorted(folder.rglob('*.py')))
    return [name.as_posix() for name in names if '_base_' not in name.parts]
