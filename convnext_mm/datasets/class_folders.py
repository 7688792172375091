"""Folders of classes, a folder of images for each, as mmpretrain's ``CustomDataset`` and ``ImageNet`` read them."""
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from convnext_mm.datasets.flaws import Finding, Flaw
from convnext_mm.datasets.heads import settings_for
from convnext_mm.datasets.images import Loader, check_image_file
from convnext_mm.datasets.sources import read_file
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.text import shorten

#: Formats that go by another one's name: a camera adds previews to a JPEG.
SAME = {'MPO': 'JPEG'}


class ClassFolders(NamedTuple):
    """The images below a folder of class folders.

    Attributes:
        root (str): The folder.
        images (dict[str, list[str]]): Name of a class folder -> paths of its images, both in order.
    """

    root: str
    images: dict

    @property
    def empty(self) -> list[str]:
        """Classes without images."""
        return [name for name, files in self.images.items() if not files]


def reads_class_folders(dataset: Any) -> bool:
    """Return whether a data set, or a class of them, has its labels from the folders, or a list, of mmpretrain's."""
    kind = dataset if isinstance(dataset, type) else type(dataset)
    return any(base.__module__ == 'mmpretrain.datasets.custom' for base in kind.__mro__)


def class_names(root: str | Path) -> list[str]:
    """Return the names of the folders in a folder, in the order of their labels."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith('.'))


def list_class_folders(dataset: Any) -> ClassFolders:
    """Return the images of a data set that was built without reading its files, and has no list of them."""
    root = dataset.img_prefix
    return ClassFolders(root, {name: sorted(
        os.path.join(folder, file) for folder, _, files in os.walk(os.path.join(root, name), followlinks=True)
        for file in files if dataset.is_valid_file(file)) for name in class_names(root)})


def root_of(dataset: Mapping) -> str | None:
    """Return the folder of the class folders of a part of a config; None where a list or another storage has them."""
    prefix = dataset.get('data_prefix') or dataset.get('split') or ''
    prefix = prefix.get('img_path', '') if isinstance(prefix, Mapping) else prefix
    data_root = os.path.expanduser(dataset.get('data_root') or '')
    listed = dataset.get('ann_file') or dataset.get('split') and os.path.isfile(
        os.path.join(data_root, 'meta', f'{dataset["split"]}.txt'))
    if listed or not dataset.get('with_label', True) or '://' in data_root:
        return None
    return os.path.join(data_root, os.path.expanduser(prefix))


def check_names(root: str, classes: Sequence[str] | None, key: str, model: Mapping) -> list[str]:
    """Return the names of the class folders in a folder, after a check that there are some with images.

    Args:
        root (str): The folder, which is there.
        classes (Sequence[str], optional): Names that the config gives the classes, in the order of the folders.
        key (str): Of the data set in the config, for messages.
        model (Mapping): Of the config, for messages.

    Raises:
        UserError: There is no class folder, nothing in any, or another number of them.
    """
    names = class_names(root)
    if not names:
        raise UserError(f'{root} ({key}) has no folders of classes; expected a folder for each class with its images')
    if classes and len(classes) != len(names):
        raise UserError(f'{root} ({key}) has {len(names)} class folders ({shorten(names)}), but {key} has '
                        f'{len(classes)} classes: for those of the folders, set {settings_for(model, names, key)}')
    if all(not any(files for _, _, files in os.walk(os.path.join(root, name))) for name in names):
        raise UserError(f'{root} ({key}) has {len(names)} class folders ({shorten(names)}) without images')
    return names


def compare_splits(names: Mapping[str, Sequence[str]]) -> tuple[str, str] | None:
    """Return the key of a split with other class folders than the first, and in words how they differ, by which labels
    would; None where all have the same.

    Args:
        names (dict[str, Sequence[str]]): Key of the data set -> its class folders; the first is compared with the rest.
    """
    first, own = next(iter(names.items()), ('', ()))
    for key, others in names.items():
        lacking, more = sorted(set(own) - set(others)), sorted(set(others) - set(own))
        parts = [f'{len(part)} {"is" if len(part) == 1 else "are"} {word} ({shorten(part)})'
                 for part, word in ((lacking, 'missing'), (more, 'in it alone')) if part]
        if parts:
            return key, (f'{key} has other class folders than {first}: {", ".join(parts)}, so that the labels differ: '
                         'make the same folders in both')
    return None


def check_class_folders(found: ClassFolders) -> list[Finding]:
    """Return the findings of the folders, without those of the images."""
    if not found.images:
        return [Finding(found.root, Flaw('no classes', 'it has no folders of classes'))]
    return [Finding(os.path.join(found.root, name), Flaw('empty class', 'it has no image')) for name in found.empty]


def check_class_image(task: tuple) -> list[Finding]:
    """Return the findings of one image file (path, loader, backend_args)."""
    path, loader, backend_args = task
    content, flaw = read_file(path, 'image', backend_args)
    flaw = flaw or check_image_file(content, loader)[1]
    flaws = [flaw] if flaw else _check_format(path, content, loader)
    return [Finding(path, flaw) for flaw in flaws]


def _check_format(path: str, content: bytes, loader: Loader) -> list[Flaw]:
    """Return what is unusual in an image that can be read: its format is not that of its name, or it has four inks."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with Image.open(io.BytesIO(content)) as image:
                kind, mode = SAME.get(image.format or '', image.format), image.mode
        except OSError:
            # Another decoder reads it.
            return []
    suffix = os.path.splitext(path)[1].lower()
    named = Image.registered_extensions().get(suffix)
    flaws = []
    if named and SAME.get(named, named) != kind:
        flaws.append(Flaw('mislabelled suffix', f'it is a {kind} file'))
    if mode == 'CMYK':
        flaws.append(Flaw('CMYK image', 'it has four inks, of which readers make RGB in their own ways: convert it'))
    return flaws


def count_rows(found: ClassFolders) -> list[tuple[str, str]]:
    """Return (what, number) for a table: the classes, and the images of each, or of the least and the most frequent."""
    counts = {name: len(files) for name, files in found.images.items()}
    few = 20
    rows = [('classes', str(len(counts))), ('images', str(sum(counts.values())))]
    if len(counts) <= few:
        return rows + [(f'images of {name}', str(number)) for name, number in counts.items()]
    ends = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    return rows + [(f'images of {name}, the {word} frequent', str(counts[name]))
                   for name, word in zip(ends, ('least', 'most'))]
