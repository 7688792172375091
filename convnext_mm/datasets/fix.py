"""Write annotation files without what ``datasets.scan`` found wrong."""
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from convnext_mm.datasets.annotations import check_instance, polygon_area
from convnext_mm.datasets.flaws import Finding
from convnext_mm.datasets.polygons import clip_polygon

#: Flaws that are mended by cutting off what reaches out of the image, where something is left.
CLIPPED = {'box outside', 'polygon outside'}


def fix_coco(content: dict, findings: Sequence[Finding]) -> tuple[dict, Counter]:
    """Return a COCO file without the entries that are wrong.

    Images with a flaw are dropped with their annotations, and so are annotations and categories with one, but for two
    cases: boxes and polygons that reach out of the image are cut off at its edge, and annotations whose id was used
    before get a new one.

    Args:
        content (dict): The parsed file; it is left as it is.
        findings (list[Finding]): Of this file.

    Returns:
        tuple: The new content, and a Counter of what was done, such as ``('images dropped', 'missing file')``.
    """
    flaws = defaultdict(set)
    for finding in findings:
        if finding.place:
            flaws[finding.place].add(finding.flaw.kind)
    done: Counter = Counter()
    fixed = dict(content)
    for part in ('categories', 'images'):
        wrong = [flaws[part, number] for number in range(len(content[part]))]
        done.update((f'{part} dropped', min(kinds)) for kinds in wrong if kinds)
        fixed[part] = [entry for entry, kinds in zip(content[part], wrong) if not kinds]
    images = {image['id']: image for image in fixed['images']}
    entries, fixed['annotations'] = content.get('annotations', []), []
    unused = 1 + max((entry['id'] for entry in entries
                      if isinstance(entry, dict) and isinstance(entry.get('id'), int)), default=0)
    for number, entry in enumerate(entries):
        kinds = flaws['annotations', number]
        if 'id used twice' in kinds:
            entry, unused, kinds = {**entry, 'id': unused}, unused + 1, kinds - {'id used twice'}
            done['annotations given another id', 'id used twice'] += 1
        entry, what, why = _fix_annotation(entry, kinds, images)
        if what:
            done[f'annotations {what}', why] += 1
        if entry:
            fixed['annotations'].append(entry)
    return fixed, done


def _fix_annotation(entry, kinds, images):
    """Return an annotation as it is kept, or None, what was done with it, and why (None and None for nothing)."""
    if kinds and kinds <= CLIPPED and entry['image_id'] in images:
        clipped = _clip(entry, images[entry['image_id']])
        if clipped:
            return clipped, 'cut off at the edge of the image', min(kinds)
    if kinds:
        return None, 'dropped', min(kinds)
    return (entry, None, None) if entry['image_id'] in images else (None, 'dropped', 'with their image')


def _clip(entry, image):
    """Return an annotation with its box and polygons inside of the image; None if nothing sound is left."""
    width, height = image['width'], image['height']
    x, y, w, h = entry['bbox']
    left, top = max(x, 0), max(y, 0)
    entry = {**entry, 'bbox': [left, top, min(x + w, width) - left, min(y + h, height) - top]}
    if isinstance(entry.get('segmentation'), list) and entry['segmentation']:
        polygons = [part for polygon in entry['segmentation'] for part in clip_polygon(polygon, width, height)]
        # An empty list would pass for an annotation that never had a mask.
        entry.update(segmentation=polygons or [[]], area=sum(map(polygon_area, polygons)))
    return None if check_instance(entry['bbox'], entry.get('segmentation'), width, height) else entry


def sound_names(dataset: Any, samples: Sequence[dict], findings: Sequence[Finding]) -> list[str]:
    """Return the names of the images of a segmentation data set without findings: the lines of its ``ann_file``.

    Args:
        dataset (BaseSegDataset): It has the folder and the suffix, which are cut off the names.
        samples (list[dict]): Its data list.
        findings (list[Finding]): Of its files.
    """
    wrong, folder = {finding.file for finding in findings}, dataset.data_prefix['img_path']
    return [sample['img_path'][len(folder):].lstrip('/').removesuffix(dataset.img_suffix) for sample in samples
            if not {sample['img_path'], sample.get('seg_map_path')} & wrong]
