"""Count what a built data set hands out, of any format that gives instances or segments: slow, but by no rules."""
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from convnext_mm.datasets.census import Census
from convnext_mm.datasets.census_coco import mask_reason
from convnext_mm.datasets.flaws import Finding, Flaw
from convnext_mm.datasets.images import Loader, loader_of


def build_census(dataset: Any) -> tuple[Census | None, Finding | None]:
    """Read the files of a data set, and return what it hands out, or what keeps it from being built.

    Args:
        dataset (BaseDataset): Built without reading its files; this reads them.

    Returns:
        tuple: A ``Census`` and None; None and a ``Finding``; None twice where it hands out something else than
        instances.
    """
    listed, load = [0], dataset.load_data_list

    def count_list():
        samples = load()
        listed[0] = len(samples)
        return samples

    # mmengine cannot pack an empty list.
    dataset.load_data_list, dataset.serialize_data = count_list, False
    try:
        dataset.full_init()
        samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    except Exception as error:  # Each data set reads its files in a way of its own.
        return None, Finding(str(dataset.ann_file or type(dataset).__name__), Flaw(
            'unreadable annotation file', f'{type(dataset).__name__} cannot read it: {type(error).__name__}: '
                                          f'{" ".join(str(error).split())}'))
    return count_samples(samples, dataset.metainfo, loader_of(dataset.pipeline), listed[0]), None


def count_samples(samples: Iterable[Mapping], metainfo: Mapping, loader: Loader, images: int) -> Census | None:
    """Return what is in the samples of a data set; None where they have neither instances nor segments of classes.

    Args:
        samples (Iterable[dict]): Of its data list.
        metainfo (dict): With ``classes``, the names of the labels.
        loader (Loader): How its pipeline reads masks.
        images (int): How many samples there were before it left some out.
    """
    classes, left = tuple(metainfo.get('classes') or ()), 0
    counts, out = [0] * len(classes), Counter[str]()
    for sample in samples:
        left += 1
        entries = sample.get('segments_info', sample.get('instances'))
        if not isinstance(entries, list) or not classes:
            return None
        for entry in entries:
            label = entry.get('category', entry.get('bbox_label'))
            reason = _reason(entry, loader)
            if reason:
                out[reason] += 1
            elif isinstance(label, int) and 0 <= label < len(classes):
                counts[label] += 1
            else:
                return None
    images_out = {'filter_cfg': images - left} if left < images else {}
    return Census(images, left, images_out, classes, counts, dict(out), annotated=loader.annotated)


def _reason(entry, loader):
    """Return why an instance is not trained with, '' where it is; segments of panoptic data all are."""
    if entry.get('ignore_flag'):
        return 'marked'
    return mask_reason(entry.get('mask'), loader.poly2mask) if loader.with_mask and 'ignore_flag' in entry else ''
