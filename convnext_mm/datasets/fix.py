"""Annotation files without what ``data_scan`` found wrong."""
from collections import Counter, defaultdict

from convnext_mm.datasets.checks import check_instance, polygon_area

#: What is mended by cutting off what reaches out of the image, where something is left.
CLIPPED = ('box outside', 'polygon outside')


def fix_coco(content, findings):
    """A COCO file without the entries that are wrong.

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
    done, fixed = Counter(), dict(content)
    for part in ('categories', 'images'):
        fixed[part] = []
        for number, entry in enumerate(content[part]):
            kinds = flaws[part, number]
            if kinds:
                done[f'{part} dropped', min(kinds)] += 1
            else:
                fixed[part].append(entry)
    images = {image['id']: image for image in fixed['images']}
    unused = 1 + max((entry['id'] for entry in content.get('annotations', ())
                      if isinstance(entry, dict) and isinstance(entry.get('id'), int)), default=0)
    fixed['annotations'] = []
    for number, entry in enumerate(content.get('annotations', [])):
        kinds = flaws['annotations', number]
        if 'id used twice' in kinds:
            entry, unused, kinds = {**entry, 'id': unused}, unused + 1, kinds - {'id used twice'}
            done['annotations given another id', 'id used twice'] += 1
        if kinds and kinds <= set(CLIPPED) and entry['image_id'] in images:
            clipped = _clip(entry, images[entry['image_id']])
            if clipped:
                done['annotations cut off at the edge of the image', min(kinds)] += 1
                entry, kinds = clipped, ()
        if kinds:
            done['annotations dropped', min(kinds)] += 1
        elif entry['image_id'] not in images:
            done['annotations dropped', 'with their image'] += 1
        else:
            fixed['annotations'].append(entry)
    return fixed, done


def _clip(entry, image):
    """An annotation with its box and polygons inside of the image; None if nothing sound is left."""
    width, height = image['width'], image['height']
    x, y, w, h = entry['bbox']
    left, top = max(x, 0), max(y, 0)
    entry = {**entry, 'bbox': [left, top, min(x + w, width) - left, min(y + h, height) - top]}
    if isinstance(entry.get('segmentation'), list) and entry['segmentation']:
        polygons = [clip_polygon(polygon, width, height) for polygon in entry['segmentation']]
        polygons = [polygon for polygon in polygons if polygon_area(polygon)]
        # An empty list would pass for an annotation that never had a mask.
        entry.update(segmentation=polygons or [[]], area=sum(map(polygon_area, polygons)))
    return None if check_instance(entry['bbox'], entry.get('segmentation'), width, height) else entry


def clip_polygon(polygon, width, height):
    """The part of a polygon [x0, y0, x1, y1, ...] inside of an image, as one polygon.

    Source: Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
    """
    points = list(zip(polygon[::2], polygon[1::2]))
    for axis, edge, sign in ((0, 0, 1), (1, 0, 1), (0, width, -1), (1, height, -1)):
        clipped = []
        for before, point in zip(points[-1:] + points[:-1], points):
            inside = [sign * (p[axis] - edge) >= 0 for p in (before, point)]
            if inside[0] != inside[1]:
                part = (edge - before[axis]) / (point[axis] - before[axis])
                crossing = [b + part * (p - b) for b, p in zip(before, point)]
                crossing[axis] = edge
                clipped.append(tuple(crossing))
            if inside[1]:
                clipped.append(point)
        points = clipped
    return [value for point in points for value in point]


def sound_names(dataset, samples, findings):
    """Names of the images of a segmentation data set in which nothing is wrong: the lines of its ``ann_file``.

    Args:
        dataset (BaseSegDataset): Knows the folder and the suffix, which names are without.
        samples (list[dict]): Its data list.
        findings (list[Finding]): Of its files.
    """
    wrong, folder = {finding.file for finding in findings}, dataset.data_prefix['img_path']
    return [sample['img_path'][len(folder):].lstrip('/').removesuffix(dataset.img_suffix) for sample in samples
            if not {sample['img_path'], sample.get('seg_map_path')} & wrong]
