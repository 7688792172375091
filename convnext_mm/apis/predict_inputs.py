"""The files that are predicted, and the names of their pictures."""
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from convnext_mm.evaluation.predictions import INDEX_FILE
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.files import png_names

#: Endings of the files that are taken from a folder or a glob.
ENDINGS = ('.bmp', '.gif', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
#: Folders of the results.
PICTURES, MAPS = 'pictures', 'maps'


def find_images(inputs: Sequence[str], out_dir: str | Path) -> list[Path]:
    """Return the files of a list of images, folders (with everything below) and globs, each once, in order.

    Args:
        inputs (Sequence[str]): As given.
        out_dir (str | Path): The pictures and maps of an earlier run are left out: they may lie in a folder that is
            given.

    Raises:
        UserError: Naming an input in which there is no image or that cannot be read, or an ``out_dir`` with pictures
            that no earlier run wrote.
    """
    own, files = {Path(out_dir, folder).resolve() for folder in (PICTURES, MAPS)}, {}
    for name in inputs:
        path = Path(name).expanduser()
        if path.is_file():
            found = [path]
        elif name and path.is_dir():
            found = list(_walk(path))
        else:
            found = sorted(filter(_is_image, map(Path, glob.glob(str(path), recursive=True))))
        kept = [file for file in found if own.isdisjoint(file.resolve().parents)]
        if len(kept) < len(found) and not Path(out_dir, INDEX_FILE).exists():
            raise UserError(f'--out-dir {str(out_dir)!r} has {PICTURES} or {MAPS} that are in input {name!r} and might '
                            'be written over: give another folder')
        if not kept:
            raise UserError(f'input {name!r} {"has no images" if path.is_dir() else "is no file, and matches none"}; '
                            f'expected images, folders or globs of {", ".join(ENDINGS)}')
        for file in kept:
            files.setdefault(os.path.abspath(file), file)
    return list(files.values())


def _is_image(path):
    """Return whether a path has an image's name; one that is missing, behind a link, is named when it is loaded."""
    return path.suffix.lower() in ENDINGS and (path.is_file() or not path.exists())


def _walk(folder: Path, above: tuple = ()) -> Iterator[Path]:
    """Yield the images in a folder and everything below, links followed, but not into a folder in which they lie."""
    real = folder.resolve()
    if real in above:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f'input {str(folder)!r} cannot be read: {error.strerror}') from None
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, (*above, real))
        elif _is_image(entry):
            yield entry


def name_pictures(files: Sequence[Path]) -> list[str]:
    """Return the path of each file's picture: the file's own below the folder in which they all are."""
    paths = list(map(os.path.abspath, files))
    names = png_names(paths, os.path.commonpath(list(map(os.path.dirname, paths))))
    return [names[path] for path in paths]
