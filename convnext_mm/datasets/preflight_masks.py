"""Check the masks of a segmentation data set before anything is built: a sample of them, in a few seconds."""
import os
from typing import Any

from convnext_mm.datasets.census import Census
from convnext_mm.datasets.census_masks import sample_masks
from convnext_mm.datasets.images import loader_of
from convnext_mm.datasets.sources import check_names, list_samples
from convnext_mm.utils.errors import UserError
from convnext_mm.utils.installation import command

FIX = f'{command("check_data")} tells all that is wrong, and writes a cleaned file with --fix'


def reads_otherwise(pipeline: Any) -> bool:
    """Return whether a built pipeline reads its masks by another transform than mm's ``LoadAnnotations``."""
    names = [type(transform).__name__ for transform in pipeline.transforms]
    return 'LoadAnnotations' not in names and any(name.startswith('Load') and 'Annot' in name for name in names)


def check_masks(dataset: Any, key: str) -> Census | None:
    """Check a sample of the masks of a data set at ``key``; return what they hand out, None where there is none.

    Raises:
        UserError: A mask is no index map or has values out of range, or mm does not read the list of names.
    """
    found = check_names(dataset)
    if found:
        raise UserError(f'{found.file} ({key}.ann_file): {found.flaw.detail}; {FIX}')
    samples, _ = list_samples(dataset)
    if not samples:
        return None
    census, wrong = sample_masks(dataset, samples, loader_of(dataset.pipeline))
    if wrong:
        path, flaw = wrong
        raise UserError(_wrong_mask(path, flaw, key))
    paths = [sample['seg_map_path'] for sample in samples if sample.get('seg_map_path')]
    # Training passes over a missing mask; if none is there, their place is wrong.
    if paths and not census.read and not any(map(os.path.isfile, paths)):
        raise UserError(f'{paths[0]} ({key}.data_prefix.seg_map_path, {key}.seg_map_suffix={dataset.seg_map_suffix}) '
                        f'does not exist, nor does any other of {len(paths)} masks')
    return census


def _wrong_mask(path, flaw, key):
    """Return in words what is wrong with a mask, and what mends it."""
    place = f'{path} ({key}.data_prefix.seg_map_path)'
    if flaw.kind == 'unreadable mask':
        return f'{place} cannot be read as a mask: {flaw.detail}; {FIX}'
    if flaw.kind == 'no index map':
        return f"{place} is no index map: {flaw.detail}: write each pixel's class as its number into a single channel"
    return (f'{place} has values out of range: {flaw.detail}: set {key}.metainfo.classes, {key}.reduce_zero_label and '
            'num_classes of the heads, or correct the masks')
