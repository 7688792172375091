"""What a built data set hands out, counted: images and instances or pixels by class, and what is left out and why."""
from collections.abc import Sequence
from typing import NamedTuple

from convnext_mm.utils.text import shorten

#: More than this share left out is told.
MUCH = .1
#: A larger share of ignored pixels is told.
MOSTLY = .5
#: Why instances are left out -> how it is said, and what mends it.
REASONS = {
    'ignore': ('have "ignore" set', 'take "ignore" out of the file'),
    'outside': ('lie outside of their image', 'write boxes as [x, y, width, height] in pixels of the image'),
    'area': ('have an area of 0 or less', "write each instance's area in pixels into the file"),
    'sides': ('have a side below one pixel', 'write boxes in pixels'),
    'category': ('are of a category that the file does not list', 'add it to the categories of the file'),
    'crowd': ('are crowds (iscrowd is 1)', 'set iscrowd to 0 for single objects'),
    'segmentation': ('have no segmentation, where the pipeline loads masks',
                     'add the masks, or use a detector without masks'),
    'polygon': ('have no usable polygon', 'give each polygon three points or more; run lengths need '
                                          'LoadAnnotations(poly2mask=True)'),
    'marked': ('are marked to be ignored (crowds, difficult or small ones)', 'correct the annotations'),
    'image': ('are of an image that the file does not list', 'correct their image_id'),
}
FRACTIONS = 'boxes look like fractions of the image (multiply them by its width and height)'
#: Instances of a category that the config does not ask for: left out by intent.
UNASKED = 'unasked'
#: Settings that leave images out -> how it is said.
FILTERS = {
    'filter_cfg.filter_empty_gt': 'have no annotation of the classes (filter_cfg.filter_empty_gt)',
    'filter_cfg.min_size': 'are smaller than filter_cfg.min_size',
    'filter_cfg': 'are left out by filter_cfg or indices',
    'indices': 'are not among indices',
}


class Census(NamedTuple):
    """What a data set hands out.

    Attributes:
        images (int): Those of the file or folder.
        left (int): Those handed out.
        images_out (dict[str, int]): Why images are left out, by the setting that does so -> how many.
        classes (tuple[str]): In the order of the labels.
        counts (list[int]): Instances, or pixels, of each class.
        out (dict[str, int]): Why instances are left out -> how many. None of a segmentation data set.
        ignored (int): Pixels that mean "ignore". Defaults to 0.
        read (int | None): Masks that were counted; None for a data set of instances. Defaults to None.
        fractions (bool): Whether boxes look like fractions of the image. Defaults to False.
        settings (str): What decides which pixels are ignored, in words. Defaults to none.
        annotated (bool): Whether there should be annotations: not for images to be labelled by a model. Defaults to
            True.
    """

    images: int
    left: int
    images_out: dict
    classes: tuple
    counts: list
    out: dict
    ignored: int = 0
    read: int | None = None
    fractions: bool = False
    settings: str = ''
    annotated: bool = True

    @property
    def lost(self) -> int:
        """Instances that are left out against what the config asks for."""
        return sum(number for reason, number in self.out.items() if reason != UNASKED)

    @property
    def absent(self) -> list[str]:
        """Classes that never occur."""
        return [name for name, number in zip(self.classes, self.counts) if not number]


def tell_nothing(census: Census, key: str, trains: bool = True) -> str | None:
    """Return in words that a data set hands out nothing, why and what mends it; None where something is left.

    Args:
        census (Census): Of the data set.
        key (str): Its key in the config.
        trains (bool): Whether it is trained with, so that images alone are not enough. Defaults to True.
    """
    if not census.left:
        why = '; '.join(f'{number} {FILTERS[setting]}' for setting, number in census.images_out.items())
        keys = ', '.join(f'{key}.{setting}' for setting in census.images_out) or f'{key}.ann_file'
        return f'{key}: 0 of {census.images} images are left: {why or "the file lists none"}: change {keys}'
    if not trains or not census.annotated or sum(census.counts):
        return None
    if census.read is None:
        total = census.lost
        # One of several data sets may be of background alone.
        if '.datasets.' in key and not census.out:
            return None
        return (f'{key}: 0 of {total} instances are left in {census.left} images: '
                f'{_reasons(census, key) or "the file has none of the classes, or the data set takes none"}')
    if census.read == census.left and census.ignored:
        return (f'{key}: no pixel of a class is left in {census.read} masks: all {census.ignored} pixels are ignored '
                f'({census.settings}): {_mend_ignored(key)}')
    return None


def tell(censuses: Sequence[tuple[str, Census]]) -> list[str]:
    """Return in words what a user should know of the data sets of a split, each with what mends it.

    Args:
        censuses (Sequence[tuple[str, Census]]): Each data set's key in the config, and its census.
    """
    told = []
    for key, census in censuses:
        others = [other for name, other in censuses if name != key]
        occur = {name for other in others for name, number in zip(other.classes, other.counts) if number}
        told += [f'{key}: {text}' for text in _tell_one(census, key, occur)]
    return told


def _tell_one(census, key, occur):
    """Return what to know of one data set; a class may be in ``occur``, those of the split's other data sets, alone."""
    told = []
    filtered = sum(number for setting, number in census.images_out.items() if setting != 'indices')
    if filtered > MUCH * census.images:
        told.append(f'{filtered} of {census.images} images are left out: ' + '; '.join(
            f'{number} {FILTERS[setting]}: change {key}.{setting}'
            for setting, number in census.images_out.items() if setting != 'indices'))
    total = sum(census.counts) + census.lost
    if census.lost > MUCH * total:
        told.append(f'{census.lost} of {total} instances are left out: {_reasons(census, key)}')
    elif census.fractions:
        told.append(f'{FRACTIONS}, {sum(census.counts)} of {total} are kept')
    absent = [name for name in census.absent if name not in occur]
    if absent and census.annotated and _telling(census):
        told.append(_tell_absent(census, absent, key))
    pixels = sum(census.counts) + census.ignored
    if pixels and census.ignored > MOSTLY * pixels and not census.absent:
        told.append(f'{census.ignored / pixels:.0%} of the pixels are ignored ({census.settings}): '
                    f'{_mend_ignored(key)}')
    return told


def _telling(census):
    """Return whether what was read is enough to say that a class never occurs."""
    few = 20
    if census.read is None or census.read == census.left:
        return True
    return census.read > 0 and (len(census.classes) <= few or 2 * len(census.absent) >= len(census.classes))


def _tell_absent(census, absent, key):
    names = shorten(absent, 10)
    trains = key.startswith('train')
    fate = 'never learned' if trains else 'never evaluated'
    if census.read is None:
        other = f', or take them out of {key}.metainfo.classes and num_classes of the heads' if trains else ''
        return (f'no instance is left of {len(absent)} of {len(census.classes)} classes, which are {fate}: {names}: '
                f'correct the annotations{other}')
    pixels = sum(census.counts) + census.ignored
    where = f'{census.read} masks' if census.read == census.left else \
        f'the {census.read} of {census.left} masks that were read'
    text = f'no pixel in {where} is of {len(absent)} of {len(census.classes)} classes, which are {fate}: {names}'
    if census.ignored:
        return f'{text}; {census.ignored / pixels:.1%} of the pixels are ignored ({census.settings}): ' \
               f'{_mend_ignored(key)}'
    return f'{text}: correct the masks, {key}.reduce_zero_label or {key}.metainfo.classes'


def _mend_ignored(key):
    return (f"paint each pixel's class as its number, from 0, or from 1 with {key}.reduce_zero_label=True, where 0 is "
            'ignored')


def _reasons(census: Census, key: str) -> str:
    """Return in words why instances are left out, the most frequent first, and what mends it."""
    parts = []
    for reason, number in sorted(census.out.items(), key=lambda item: -item[1]):
        if number and reason != UNASKED:
            said, mend = REASONS[reason]
            parts.append(f'{number} {said} ({mend})')
    if census.fractions:
        parts.append(FRACTIONS)
    return '; '.join(parts)


def table_rows(censuses: Sequence[tuple[str, Census]]) -> list[tuple]:
    """Return rows of (data set, what, number, of) for a table of what is used."""
    rows: list[tuple] = []
    for key, census in censuses:
        what = 'instances' if census.read is None else 'pixels'
        rows.append((key, 'images', census.left))
        rows += [('', f'images that {FILTERS[setting]}', number) for setting, number in census.images_out.items()]
        rows += [('', f'{what} of {name}', number) for name, number in zip(census.classes, census.counts)]
        rows += [('', f'left out: {REASONS[reason][0] if reason in REASONS else "are of other categories"}', number)
                 for reason, number in census.out.items() if number]
        if census.read is not None:
            pixels = sum(census.counts) + census.ignored
            rows.append(('', 'pixels ignored' + (f' ({census.ignored / pixels:.1%})' if pixels else ''),
                         census.ignored))
    return rows
